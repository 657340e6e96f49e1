"""A trained T×V network, which maps features to embeddings, in numpy: no torch is needed to use one.

One joint space for each pair of a text feature t and a visual feature v (Galanopoulos and Mezaris, "Are all
combinations equal?", ECCVW 2022; here facts of the 2022 NewsImages paper, section 3.3): T · V spaces. A block is Linear
→ BatchNorm → tanh; a text passes one block per (t, v), a photo one block per v, of H numbers, and then one per (v, t);
each result is scaled to unit length. The similarity, the sum of the cosines over the spaces, is one dot product of the
concatenated vectors; dividing both by √(T·V) makes it their cosine. Several trainings on the same features are averaged
the same way: as members of one network, K · T · V spaces. A gate computes weights of the members from the text: factors
of their parts of the text's vector, so the similarity stays one dot product.

A batch norm that has finished training is linear, so it is folded into the layer before it: a block in the file is one
matrix and one bias. The file is safetensors, never a pickle; its metadata names the towers it was trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from photodesk.errors import EncoderError
from photodesk.files import open_regular, replacing
from photodesk.types import FloatArray, unit

FORMAT = "photodesk-txv/1"
PHOTOS = 512  # rows that are mapped at once


@dataclass(frozen=True, eq=False)
class Network:
    """Weights of a T×V network, ready to use.

    Args:
        text_tower: fingerprint of the tower whose features it was trained on.
        photo_tower: likewise for the photos.
        text_dims: T sizes of the text features that are concatenated in a row; visual_dims likewise, V.
        weights: `text.{t}.{v}.w` (d_t, D), `.b` (D,); `photo.{v}.w` (d_v, H); `pair.{v}.{t}.w` (H, D); float32 (in the
            paper H = D). With several members each name begins with the member's number and a dot, except photo
            blocks that all share. A block of landmarks has `photo.{v}.p` (d_v, r) before `photo.{v}.w`, which is
            (r, H) then, and 1 + tanh, so that a photo far from a landmark has 0. `gate.w` (Σ text_dims, K) and `gate.b`
            (K,) weigh the members for a text.
        card: metadata of the training run: data, seed, measures.
        encoders: names of the encoders whose towers it was trained on.
        fields: of the article that each text feature is made from; empty: the text as it is prepared.
        members: K trainings that are averaged.
        exact: matrices are stored as float32, not float16: needed with landmarks, whose photo block depends on small
            differences of numbers near −1.

    Raises:
        EncoderError: a weight is missing or of the wrong shape.
    """

    text_tower: str
    photo_tower: str
    text_dims: tuple[int, ...]
    visual_dims: tuple[int, ...]
    weights: Mapping[str, FloatArray]
    card: Mapping[str, object] = field(default_factory=dict)
    encoders: tuple[str, ...] = ("builtin",)
    fields: tuple[tuple[str, ...], ...] = ()
    members: int = 1
    exact: bool = False

    def __post_init__(self) -> None:
        inner, hidden = self._inner, len(self.weights.get(self._photo(self._prefixes[0], 0) + ".b", ()))
        wanted: dict[str, tuple[int, ...]] = {}
        if "gate.w" in self.weights:
            wanted |= {"gate.w": (sum(self.text_dims), self.members), "gate.b": (self.members,)}
        for m in self._prefixes:
            for v, visual in enumerate(self.visual_dims):
                name, into = self._photo(m, v), visual
                if f"{name}.p" in self.weights:
                    into = self.weights[f"{name}.p"].shape[-1]
                    wanted[f"{name}.p"] = (visual, into)
                wanted |= {f"{name}.w": (into, hidden), f"{name}.b": (hidden,)}
                for t, text in enumerate(self.text_dims):
                    wanted |= {f"{m}text.{t}.{v}.w": (text, inner), f"{m}text.{t}.{v}.b": (inner,)}
                    wanted |= {f"{m}pair.{v}.{t}.w": (hidden, inner), f"{m}pair.{v}.{t}.b": (inner,)}
        for name, shape in wanted.items():
            found = self.weights[name].shape if name in self.weights else None
            if found != shape:
                raise EncoderError(
                    f"network weight {name} should be {shape} and is {found}; the file is damaged or not a T×V network"
                )
        if extra := set(self.weights) - set(wanted):
            raise EncoderError(
                f"network has weights that a {len(self.text_dims)}×{len(self.visual_dims)} one does not: "
                f"{sorted(extra)[:3]}"
            )

    @property
    def fingerprint(self) -> str:
        """Changes with every weight."""
        content = hashlib.sha256()
        for name in sorted(self.weights):
            content.update(name.encode())
            content.update(np.ascontiguousarray(self.weights[name]).tobytes())
        return f"txv-{content.hexdigest()[:16]}"

    @property
    def _prefixes(self) -> list[str]:
        return [f"{m}." for m in range(self.members)] if self.members > 1 else [""]

    def _photo(self, member: str, v: int) -> str:
        """The name of a photo block: the member's, or the shared one."""
        return f"{member}photo.{v}" if f"{member}photo.{v}.w" in self.weights else f"photo.{v}"

    @property
    def _inner(self) -> int:
        bias = self.weights.get(f"{self._prefixes[0]}pair.0.0.b")
        return 0 if bias is None else int(bias.shape[0])

    @property
    def dim(self) -> int:
        """The length of an embedding: K · T · V · D."""
        return self.members * len(self.text_dims) * len(self.visual_dims) * self._inner

    def saw(self, edition: str) -> bool:
        """Whether it was trained on data of that edition, such as "NewsImages 2025"."""
        data = self.card.get("data", [])
        return bool(edition) and isinstance(data, list) and any(str(line).startswith(f"{edition}: ") for line in data)

    def texts(self, features: FloatArray) -> FloatArray:
        """(n, Σ text_dims) feature rows → (n, K·T·V·D) unit rows."""
        parts = _split(features, self.text_dims, "text")
        visual = range(len(self.visual_dims))
        rows = _joined(
            self._block(f"{m}text.{t}.{v}", parts[t]) for m, t, v in product(self._prefixes, range(len(parts)), visual)
        )
        if "gate.w" not in self.weights:
            return rows
        odds = features @ self.weights["gate.w"] + self.weights["gate.b"]
        share = unit(np.exp(odds - odds.max(axis=1, keepdims=True)))
        weighed: FloatArray = rows * np.repeat(share, self.dim // self.members, axis=1) * np.float32(self.members**0.5)
        return weighed

    def photos(self, features: FloatArray) -> FloatArray:
        """(m, Σ visual_dims) feature rows → (m, K·T·V·D) unit rows; in blocks, since landmarks make long rows."""
        out = np.empty((len(features), self.dim), np.float32)
        parts = _split(features, self.visual_dims, "photo")
        for start in range(0, len(features), PHOTOS):
            out[start : start + PHOTOS] = self._photos([unit(part[start : start + PHOTOS]) for part in parts])
        return out

    def _photos(self, parts: Sequence[FloatArray]) -> FloatArray:
        names = {(m, v): self._photo(m, v) for m in self._prefixes for v in range(len(parts))}
        shared = {name: self._block(name, parts[v]) for (_, v), name in names.items()}
        spaces = product(self._prefixes, range(len(self.text_dims)), range(len(parts)))
        return _joined(self._block(f"{m}pair.{v}.{t}", shared[names[m, v]]) for m, t, v in spaces)

    def _block(self, name: str, x: FloatArray) -> FloatArray:
        marks = self.weights.get(f"{name}.p")
        if marks is not None:
            x = x @ marks
        y: FloatArray = x @ self.weights[f"{name}.w"] + self.weights[f"{name}.b"]
        return np.tanh(y) if marks is None else one_plus_tanh(y)


def one_plus_tanh(x: FloatArray) -> FloatArray:
    """1 + tanh(x), accurate where it is small."""
    y: FloatArray = np.float32(2) / (np.exp(np.float32(-2) * x) + np.float32(1))
    return y


def _split(features: FloatArray, dims: Sequence[int], kind: str) -> list[FloatArray]:
    if features.ndim != 2 or features.shape[1] != sum(dims):
        raise EncoderError(
            f"{kind} features are {features.shape} and the network was trained on rows of {sum(dims)}; use the encoder "
            "it was trained with"
        )
    return np.split(features, np.cumsum(dims)[:-1], axis=1)


def _joined(spaces: Iterable[FloatArray]) -> FloatArray:
    rows = [unit(space) for space in spaces]
    return np.concatenate([row / np.float32(len(rows) ** 0.5) for row in rows], axis=1)


def averaged(
    networks: Sequence[Network], card: Mapping[str, object], *, gate: tuple[FloatArray, FloatArray] | None = None
) -> Network:
    """One network whose similarity is the mean of theirs, weighted by the gate if there is one; equal photo blocks are
    stored once.

    Raises:
        EncoderError: they were trained on different towers, or have different sizes.
    """
    first = networks[0]
    if len(networks) == 1:
        return replace(first, card=card)
    weights: dict[str, FloatArray] = {} if gate is None else {"gate.w": gate[0], "gate.b": gate[1]}
    for m, network in enumerate(networks):
        made_for = (network.text_tower, network.photo_tower, network.dim, network.members)
        if made_for != (first.text_tower, first.photo_tower, first.dim, 1):
            raise EncoderError("only networks on the same towers and of one size can be averaged")
        for name, w in network.weights.items():
            shared = name.startswith("photo.") and all(np.array_equal(w, other.weights[name]) for other in networks)
            weights[name if shared else f"{m}.{name}"] = w
    return replace(first, weights=weights, card=card, members=len(networks))


def rounded(network: Network) -> Network:
    """The network with its weights rounded as in a file, so that what is evaluated is what is loaded later."""
    return replace(
        network, weights={name: w.astype(_kept(network, w)).astype(np.float32) for name, w in network.weights.items()}
    )


def _kept(network: Network, weight: FloatArray) -> type[np.floating]:
    return np.float16 if weight.ndim == 2 and not network.exact else np.float32


def save(network: Network, path: Path) -> None:
    """Write a network as safetensors: matrices as float16, which does not change its cosines, or as float32 where
    it is `exact`."""
    from safetensors.numpy import save as dump

    about = {
        "format": FORMAT,
        "text_tower": network.text_tower,
        "photo_tower": network.photo_tower,
    }
    for key in ("text_dims", "visual_dims", "card", "encoders", "fields", "members"):
        about[key] = json.dumps(getattr(network, key), ensure_ascii=False, sort_keys=True)
    kept = {name: np.ascontiguousarray(w, _kept(network, w)) for name, w in network.weights.items()}
    content = dump(kept, about | {"sum": _sum(kept, about)})
    with replacing(path, "wb") as stream:
        stream.write(_ordered(content))


def _sum(stored: Mapping[str, NDArray[np.generic]], about: Mapping[str, str]) -> str:
    """Digest of all that a file says: metadata and weights, in whatever order they are."""
    content = hashlib.sha256(json.dumps(dict(about), sort_keys=True).encode())
    for name in sorted(stored):
        content.update(f"{name} {stored[name].dtype.str} {stored[name].shape}".encode())
        content.update(np.ascontiguousarray(stored[name]).tobytes())
    return content.hexdigest()[:32]


def _ordered(content: bytes) -> bytes:
    """A safetensors file with the names in its header in order; the library writes metadata in a new one each time."""
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # so that the weights are aligned
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def _pickled(path: Path) -> bool:
    """Whether a file begins as a pickle or as torch's zip of one, not as safetensors: a length of eight bytes, then
    JSON."""
    try:
        with open_regular(path) as stream:
            begin = stream.read(9)
    except OSError:
        return False
    return begin.startswith((b"\x80", b"PK")) and begin[8:] != b"{"


def load(path: Path) -> Network:
    """Read a network that `save` wrote.

    Raises:
        EncoderError: no such file, not safetensors (a pickle is never opened), damaged, or of another format.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with open_regular(path), safe_open(path, "numpy") as file:
            about = dict(file.metadata() or {})
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except FileNotFoundError:
        raise EncoderError(f"no network at {path}") from None
    except (SafetensorError, OSError, ValueError) as error:
        if _pickled(path):
            raise EncoderError(
                f"{path} is a pickle, which may run code and is never opened; save it as safetensors"
            ) from None
        raise EncoderError(
            f"{path} is not a safetensors file or is damaged ({error}); train it again or fetch it again"
        ) from None
    weights = {name: w.astype(np.float32) for name, w in stored.items()}
    try:
        if about.get("format") != FORMAT:
            raise EncoderError(f"{path} holds {about.get('format', 'no named format')}, not {FORMAT}")
        noted = about.pop("sum", None)  # an older photodesk wrote none
        if noted is not None and noted != _sum(stored, about):
            raise EncoderError(f"{path} is damaged: it is not what was written; train it again or fetch it again")
        if not all(np.isfinite(w).all() for w in weights.values()):
            raise EncoderError(f"{path} holds weights that are not numbers; it is damaged")
        members = int(json.loads(about.get("members", "1")))
        if not 1 <= members <= len(weights):
            raise ValueError(f"{members} members in {len(weights)} weights")
        text_dims, visual_dims = (tuple(json.loads(about[f"{kind}_dims"])) for kind in ("text", "visual"))
        return Network(
            about["text_tower"],
            about["photo_tower"],
            text_dims,
            visual_dims,
            weights,
            json.loads(about["card"]),
            tuple(json.loads(about.get("encoders", '["builtin"]'))),
            tuple(tuple(names) for names in json.loads(about.get("fields", "[]"))),
            members,
            exact=any(w.ndim == 2 and w.dtype == np.float32 for w in stored.values()),
        )
    except (KeyError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise EncoderError(
            f"{path} does not say what it was trained on ({error}); it was not written by photodesk"
        ) from None
