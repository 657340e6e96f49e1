"""Connected components: what belongs together because of single links."""

from __future__ import annotations

from collections.abc import Iterable


def components(n: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """The component of each of the nodes 0 … n - 1: the smallest node that a chain of `links` connects it with."""
    parent = list(range(n))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for a, b in links:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return [root(node) for node in range(n)]
