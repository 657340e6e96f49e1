"""The token budget: how many words of a text an encoder reads before its context length cuts the rest off, which tools
do silently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from photodesk.encoders.base import TextTower


@dataclass(frozen=True, slots=True)
class Budget:
    """How much of a text an encoder reads.

    Args:
        words: words of the text.
        kept: how many of them the encoder reads, from the start.
        tokens: pieces that the encoder makes of the whole text.
    """

    words: int
    kept: int
    tokens: int


def budget(texts: Sequence[str], tower: TextTower) -> tuple[Budget, ...]:
    """How much of every text survives the tower's context length; a tower that windows long texts (context 0) reads
    all."""
    report = []
    for text in texts:
        parts, tokens = text.split(), len(tower.tokens(text))
        low, high = 0, len(parts)
        if not tower.context or tokens <= tower.context:
            low = high
        while low < high:
            middle = (low + high + 1) // 2
            if len(tower.tokens(" ".join(parts[:middle]))) <= tower.context:
                low = middle
            else:
                high = middle - 1
        report.append(Budget(len(parts), low, tokens))
    return tuple(report)
