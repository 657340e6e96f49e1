"""What a tower's weights are: read without pickles, named by a hash of every number in them."""

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


def tensor_digest(tensors: Mapping[str, Any]) -> str:
    """SHA-256 over names, types, shapes and numbers of torch tensors, as 32 hex digits; their order does not count."""
    import torch

    state = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        state.update(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))
    return state.hexdigest()[:32]


def drop(model: Any, unused: Callable[[str], bool]) -> None:
    """Take those of a torch model's own modules and parameters out of it that `unused` says, so that their memory is
    free."""
    for name, _ in [*model.named_children(), *model.named_parameters(recurse=False)]:
        if unused(name):
            setattr(model, name, None)


def remembered(files: Sequence[Path], about: str, compute: Callable[[], dict[str, str]]) -> dict[str, str]:
    """`compute()` of the weights that `files` hold, computed once for each state of the files.

    A file's state is its path, size, inode and times of change, of which no program can set the last: hashing gigabytes
    takes seconds.

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
        pass  # a cache that cannot be written costs seconds next time, no more
    return found


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a checkpoint's tensors by name, without reading them. Nothing but tensors is ever unpickled."""
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
    """Whether a checkpoint is of a kind that can be read without running what is in it.

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
    """Lets a library read a model's files, which come from anywhere: whatever it raises is an EncoderError that begins
    with `what`."""
    try:
        yield
    except EncoderError:
        raise
    except Exception as error:  # each library has its own kinds
        reason = " ".join(str(error).split())[:300]
        raise EncoderError(f"{what}: {type(error).__name__}{reason and f': {reason}'}{advice}") from None


def word_table(tokenizer: Any) -> str:
    """What a tokenizer of Transformers makes of texts, as far as it can tell: all its rules, or its class."""
    quick = hasattr(tokenizer, "backend_tokenizer")
    return str(tokenizer.backend_tokenizer.to_str()) if quick else type(tokenizer).__name__


def short(*parts: object) -> str:
    """A tower's identity: 16 hex digits of all that its output depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
