"""The token budget: how many words of a text an encoder reads before its context length truncates it silently."""

from __future__ import annotations

from bisect import bisect_right
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
        tokens: of the whole text.
    """

    words: int
    kept: int
    tokens: int


def budget(texts: Sequence[str], tower: TextTower) -> tuple[Budget, ...]:
    """How much of each text is within the tower's context length; a tower with windows (context 0) reads all."""
    return tuple(_budget(text, tower) for text in texts)


def _budget(text: str, tower: TextTower) -> Budget:
    words, tokens = text.split(), len(tower.tokens(text))
    if not tower.context or tokens <= tower.context:
        return Budget(len(words), len(words), tokens)

    def cost(count: int) -> int:
        return len(tower.tokens(" ".join(words[:count])))

    return Budget(len(words), bisect_right(range(1, len(words) + 1), tower.context, key=cost), tokens)
