"""Two towers of different models in one space: `text=openclip:…, image=openclip:…`, `text=sentence:…, image=clip:…`.

Whether they share a space is checked. A text tower that has a photo tower of its own shares the space of another photo
tower if the two are the same, frozen while the text tower was trained: weights and preprocessing are compared. A text
tower without one, distilled from another text tower, must embed sentences close to that of the image model.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import resources
from typing import Any

from photodesk.encoders.base import Encoder, PhotoTower, TextTower
from photodesk.encoders.spec import Spec
from photodesk.errors import EncoderError, UsageError

PROBES: dict[str, list[str]] = tomllib.loads((resources.files("photodesk.encoders") / "probes.toml").read_text("utf-8"))
SENTENCES = tuple(PROBES["captions"])
"""English captions whose rows by two text towers are compared."""

AGREEMENT = 0.5
"""Mean cosine that a distilled text tower must reach; it is trained for 1, unrelated spaces give 0."""


def load(parts: Mapping[str, Spec], load_part: Callable[[str], Encoder]) -> Encoder:
    """The text tower of one model and the photo tower of another, if they share a space.

    Args:
        parts: "text" and "image".
        load_part: `registry.load`.

    Raises:
        UsageError: a family that cannot be paired.
        EncoderError: the two do not share a space; the message says by how much they differ.
    """
    text, image = parts["text"], parts["image"]
    name = f"text={replace(text, precision='fp32', device='auto', compile='no')}, image={image}"
    for part in (text, image):
        if part.family not in ("openclip", "clip", "onnx", "sentence") or (part is image and part.family == "sentence"):
            raise UsageError(
                f"{part} cannot be {'image' if part is image else 'text'} of a pair; see: photodesk encoders"
            )
    photos = load_part(str(image))
    if text.family == "sentence":
        from photodesk.encoders import sentence_transformers

        tower: TextTower
        tower, runs_on = sentence_transformers.load(text)
        check_imitation(tower, photos.texts, name)
    else:
        texts = load_part(str(text))
        check_frozen(texts.photos, photos.photos, name)
        tower, runs_on = texts.texts, texts.runs_on
    tower.alone()
    photos.photos.alone()
    both = runs_on if runs_on == photos.runs_on else f"{runs_on} (texts) and {photos.runs_on} (photos)"
    return Encoder(name, tower, photos.photos, runs_on=both)


def check_frozen(own: PhotoTower, other: PhotoTower, name: str) -> None:
    """Check that two photo towers are the same.

    Fingerprints name every weight, the activation and the preprocessing. Where they differ, the weights are compared as
    half-precision numbers, since the same tower may have been published in fp32 and in fp16.

    Raises:
        EncoderError: they are not.
    """
    if own.fingerprint == other.fingerprint:
        return
    reason = "the two photo towers have the same weights but prepare photos or compute differently"
    a, b = own.state(), other.state()
    if not a or not b:
        reason = "the two photo towers cannot be compared"
    elif {key: tensor.shape for key, tensor in a.items()} != {key: tensor.shape for key, tensor in b.items()}:
        reason = "the two photo towers are built differently"
    elif differ := [key for key in a if not _same(a[key], b[key])]:
        most = max(float((a[key].cpu().float() - b[key].cpu().float()).abs().max()) for key in differ)
        reason = f"{len(differ)} of {len(a)} tensors of the two photo towers differ, by up to {most:.2g}"
    elif own.built == other.built:
        return
    raise EncoderError(f"{name}: {reason}; a text tower can only read photos of the tower that it was trained with")


def _same(a: Any, b: Any) -> bool:
    return bool((a.cpu().half() == b.cpu().half()).all())


def check_imitation(texts: TextTower, teacher: TextTower, name: str) -> None:
    """Check that two text towers share a space: each sentence is its own nearest neighbour, with a high cosine.

    Raises:
        EncoderError: it does not.
    """
    if texts.dim != teacher.dim:
        raise EncoderError(
            f"{name}: the text tower gives {texts.dim} numbers and the photo tower {teacher.dim}; they share no space"
        )
    cosines = texts.encode(SENTENCES) @ teacher.encode(SENTENCES).T
    hits = int((cosines.argmax(axis=1) == range(len(SENTENCES))).sum())
    mean = float(cosines.diagonal().mean())
    if hits < len(SENTENCES) or mean < AGREEMENT:
        raise EncoderError(
            f"{name}: the text tower finds {hits} of {len(SENTENCES)} sentences among the rows of the image model's "
            f"own text tower, with a mean cosine of {mean:.2f} (needed: all, {AGREEMENT}); they share no space"
        )
