"""A tower's weights: read without pickles, split by tower, identified by a hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from photodesk.errors import EncoderError
from photodesk.files import cache_folder, replacing

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
LOGITS = "logit_"  # begins the names of the scale and bias that neither tower needs


def tensor_digest(tensors: Mapping[str, Any]) -> str:
    """SHA-256 over names, types, shapes and values of torch tensors, 32 hex digits; independent of their order."""
    import torch

    state = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        state.update(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))
    return state.hexdigest()[:32]


def halves(model: Any, visual: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The tensors of a torch model's two towers, "photos" and "texts", by name.

    Args:
        visual: the modules that are the photo tower. All others but the logits' scale and bias are the text tower.
    """
    found: dict[str, dict[str, Any]] = {"photos": {}, "texts": {}}
    for name, tensor in model.state_dict().items():
        if not name.startswith(LOGITS):
            found["photos" if name.partition(".")[0] in visual else "texts"][name] = tensor
    return found


def half_digests(files: Sequence[Path], about: str, model: Any, visual: Sequence[str]) -> dict[str, str]:
    """`tensor_digest` of both `halves` of a model loaded from `files`; see `remembered`."""

    def compute() -> dict[str, str]:
        return {half: tensor_digest(tensors) for half, tensors in halves(model, visual).items()}

    return remembered(files, about, compute)


def release(model: Any, half: str, visual: Sequence[str]) -> None:
    """Free the memory of one of the towers that `halves` tells apart."""
    for name, _ in [*model.named_children(), *model.named_parameters(recurse=False)]:
        if not name.startswith(LOGITS) and (name in visual) == (half == "photos"):
            setattr(model, name, None)


def remembered(files: Sequence[Path], about: str, compute: Callable[[], dict[str, str]]) -> dict[str, str]:
    """`compute()` of the weights in `files`, cached on disk since hashing gigabytes takes seconds.

    The cache key is each file's path, size, inode and times of change, of which no program can set the last.

    Args:
        about: what else the result depends on.
    """
    state = [about]
    for path in sorted(file.resolve() for file in files):
        status = path.stat()
        state.append(f"{path}\0{status.st_size}\0{status.st_ino}\0{status.st_mtime_ns}\0{status.st_ctime_ns}")
    name = hashlib.sha256("\n".join(state).encode()).hexdigest()[:32]
    note = cache_folder() / "weights" / f"{name}.json"
    try:
        known = json.loads(note.read_text("utf-8"))
        if isinstance(known, dict) and known:
            return {str(key): str(value) for key, value in known.items()}
    except (OSError, ValueError):
        pass
    found = compute()
    try:
        with replacing(note) as stream:
            stream.write(json.dumps(found))
    except OSError:
        pass  # without a cache the next run computes again
    return found


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a checkpoint's tensors by name, without reading the tensors. Nothing but tensors is unpickled."""
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  not a dict
    import torch

    state = torch.load(path, map_location="meta", weights_only=True)
    state = state.get("state_dict", state)
    return {
        str(name).removeprefix("module."): tuple(tensor.shape)
        for name, tensor in state.items()
        if hasattr(tensor, "shape")
    }


def check_suffix(path: Path) -> None:
    """Check that a checkpoint can be read without running code in it.

    Raises:
        EncoderError: it is missing or of another kind.
    """
    if not path.is_file():
        raise EncoderError(
            f"there is no checkpoint {path}; name a .safetensors or .pt file, or a folder that holds one"
        )
    if path.suffix not in SUFFIXES:
        raise EncoderError(
            f"{path} is no checkpoint that photodesk reads ({', '.join(SUFFIXES)}); save it as .safetensors"
        )


@contextmanager
def reading(what: str, advice: str = "") -> Iterator[None]:
    """While a library reads a model's files, which are untrusted: any exception becomes an EncoderError that begins
    with `what`."""
    try:
        yield
    except EncoderError:
        raise
    except Exception as error:  # each library has its own classes
        reason = " ".join(str(error).split())[:300]
        raise EncoderError(f"{what}: {type(error).__name__}{reason and f': {reason}'}{advice}") from None


def word_table(tokenizer: Any) -> str:
    """The identity of a tokenizer of Transformers: all its rules, or its class where it cannot list them."""
    quick = hasattr(tokenizer, "backend_tokenizer")
    return str(tokenizer.backend_tokenizer.to_str()) if quick else type(tokenizer).__name__


def short(*parts: object) -> str:
    """A hash of all that a tower's output depends on, 16 hex digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
