"""The protocols behind which every model stands: a text tower, a photo tower, an optional T×V network.

A tower turns raw material into feature rows; the store keeps those, keyed by content and the tower's fingerprint. A
network (`txv.py`) maps features into the joint space and is cheap, so its output is never stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from photodesk.errors import StoreError, UsageError
from photodesk.types import FloatArray

if TYPE_CHECKING:
    from PIL import Image

    from photodesk.encoders.txv import Network


@runtime_checkable
class TextTower(Protocol):
    """Turns prepared texts into feature rows.

    Attributes:
        fingerprint: changes whenever the output does (weights, tokenisation, prefix); part of every cache key.
        dim: numbers per row.
        batch: how many texts one call should bring.
        context: how many tokens the model reads; 0 where it windows long texts.
    """

    fingerprint: str
    dim: int
    batch: int
    context: int

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """(n texts, dim) float32 unit rows in the order given; a row does not depend on its neighbours."""
        ...

    def tokens(self, text: str) -> list[str]:
        """The pieces that the model reads of `text`, without its special tokens and before any cut."""
        ...


@runtime_checkable
class PhotoTower(Protocol):
    """Turns decoded photos into feature rows, in two steps so that decoding threads share the work.

    Attributes:
        fingerprint: changes whenever the output does (weights, preprocessing); part of every cache key.
        dim: numbers per row.
        batch: how many photos one call should bring, to begin with; see `most`.
        size: pixels of the shorter side that the model can use; lets JPEG decoding skip the rest.
    """

    fingerprint: str
    dim: int
    batch: int
    size: int

    def prepare(self, photo: Image.Image) -> NDArray[np.generic]:
        """One upright RGB photo as the array that `encode` stacks. Called from several threads."""
        ...

    def encode(self, batch: NDArray[np.generic]) -> FloatArray:
        """(n photos, dim) float32 rows from n stacked arrays; called from several threads, each on its own batch."""
        ...


def most(tower: PhotoTower) -> int:
    """How many photos one call may bring: memory grows with them. A tower that knows better than 64 says so by an
    attribute `most`."""
    return int(getattr(tower, "most", 64))


@dataclass(frozen=True)
class Encoder:
    """Two towers that a joint space connects.

    Args:
        name: as `load` reads it.
        texts: the text tower.
        photos: the photo tower.
        network: maps both towers' features into the joint space; None where the towers already share one.
        runs_on: device and precision, for people; empty where there is no choice.
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
        """Whether photo embeddings made by an encoder of that fingerprint are also this one's: the same photo tower and
        network.

        Who read the texts does not matter to them, so several text towers that share one space with a photo tower share
        its index.
        """
        ours = [self.photos.fingerprint] + ([self.network.fingerprint] if self.network else [])
        return fingerprint.endswith(
            "+" + "+".join(ours)
        )  # from the end: only a text tower's fingerprint may hold a + of its own

    def check(self, fingerprint: str, name: str, place: object, advice: str) -> None:
        """Raise where photo embeddings are not this encoder's; see `reads`.

        Args:
            fingerprint: of the encoder that made them; name: what that one is called.
            place: where they are.
            advice: how to come by this encoder's.

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
                "for a photo; train "
                f"a network on it (photodesk train DATA --encoder {self.name} -o FILE) and name that: txv@FILE"
            )
        return self
