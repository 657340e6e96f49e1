"""The protocols of encoders: a text tower, a photo tower, an optional T×V network.

A tower turns texts or photos into feature rows; the store keeps those, keyed by content and the tower's fingerprint. A
network (`txv.py`) maps features into the joint space and is cheap, so its output is never stored.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from photodesk.errors import StoreError, UsageError
from photodesk.types import FloatArray

if TYPE_CHECKING:
    from PIL import Image

    from photodesk.encoders.txv import Network


class Tower(Protocol):
    """What text and photo towers have in common. A tower is a subclass of `TextTower` or `PhotoTower`; members with a
    value or a body here are optional.

    Attributes:
        fingerprint: changes whenever the output does (weights, tokenisation, preprocessing); part of every cache key.
        dim: length of a row.
        batch: how many texts or photos one call should bring; of photos at first, see `PhotoTower.most`.
    """

    fingerprint: str
    dim: int
    batch: int

    @property
    def dims(self) -> tuple[int, ...]:
        """How a row divides into the features of a T×V network; their sum is `dim`."""
        return (self.dim,)

    def alone(self) -> None:
        """Release what only the other tower of the same model needs."""
        return


@runtime_checkable
class TextTower(Tower, Protocol):
    """Turns prepared texts into feature rows.

    Attributes:
        context: how many tokens the model reads; 0 where it reads long texts in windows.
        fields: sets of an article's fields that are each prepared and encoded separately, such as
            (("title",), ("text",)); empty: the text as it is prepared.
    """

    context: int
    fields: tuple[tuple[str, ...], ...] = ()

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> FloatArray:
        """(n texts, dim) float32 unit rows in order; a row does not depend on its neighbours."""

    def read(self, texts: Sequence[tuple[str, ...]]) -> FloatArray:
        """As `encode`, of articles with one string for each of `fields`, or one in all."""
        return self.encode([text for (text,) in texts])

    @abstractmethod
    def tokens(self, text: str) -> list[str]:
        """The tokens of `text`, without special tokens and before truncation."""


@runtime_checkable
class PhotoTower(Tower, Protocol):
    """Turns decoded photos into feature rows, in two steps so that decoding threads can run the first.

    Attributes:
        size: pixels of the shorter side that the model can use, so that JPEGs are decoded at a smaller size. 0: all.
        most: how many photos one call may bring, since memory grows with them.
        built: what its rows depend on apart from its weights, to compare two towers.
    """

    size: int
    most: int = 64
    built: object = None

    @abstractmethod
    def prepare(self, photo: Image.Image) -> NDArray[np.generic]:
        """One upright RGB photo as the array that `encode` stacks; its shape and type are the same for every photo.
        Called from several threads."""

    @abstractmethod
    def encode(self, batch: NDArray[np.generic]) -> FloatArray:
        """(n photos, dim) float32 rows from n stacked arrays; called from several threads, each on its own batch."""

    def state(self) -> Mapping[str, Any]:
        """Its weights by name, to compare two towers; empty where they cannot be compared."""
        return {}


@dataclass(frozen=True)
class Encoder:
    """Two towers with a joint space.

    Args:
        name: as `load` reads it.
        texts: the text tower.
        photos: the photo tower.
        network: maps both towers' features into the joint space; None where the towers already share one.
        runs_on: device and precision, for messages; empty where there is no choice.
    """

    name: str
    texts: TextTower
    photos: PhotoTower
    network: Network | None = None
    runs_on: str = ""

    @property
    def fingerprint(self) -> str:
        """Identifies the joint space: embeddings are comparable if and only if this is equal."""
        parts = [self.texts.fingerprint, self.photos.fingerprint]
        return "+".join(parts + ([self.network.fingerprint] if self.network else []))

    def reads(self, fingerprint: str) -> bool:
        """Whether an encoder of that fingerprint makes the same photo embeddings: it has the same photo tower and
        network. Text towers of one space can therefore share an index.
        """
        # from the end: only a text tower's fingerprint may contain a +
        return fingerprint.endswith(self.fingerprint.removeprefix(self.texts.fingerprint))

    def check(self, fingerprint: str, name: str, place: object, advice: str) -> None:
        """Check that photo embeddings are this encoder's; see `reads`.

        Args:
            fingerprint: of the encoder that made them; name likewise.
            place: where they are.
            advice: how to get this encoder's.

        Raises:
            StoreError: another encoder made them.
        """
        if not self.reads(fingerprint):
            raise StoreError(
                f"{place} was made by {name} ({fingerprint}), and this is {self.name} ({self.fingerprint}); {advice}"
            )

    def joint(self) -> Encoder:
        """This encoder, if texts and photos can be compared by it.

        Raises:
            UsageError: it is two towers without a network between them, which only `photodesk train` can use.
        """
        if self.network is None and self.texts.dim != self.photos.dim:
            raise UsageError(
                f"{self.name} is for train only: it gives {self.texts.dim} numbers for a text and {self.photos.dim} "
                f"for a photo; train a network on it (photodesk train DATA --encoder {self.name} -o FILE) and name "
                "that: txv@FILE"
            )
        return self
