"""Plots as SVG, without a library: lines, points, bars and intervals on axes with round ticks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The colour-blind safe palette of Okabe and Ito."""
INK, GREY, GRID = "#1f2328", "#6e7781", "#e6e9ed"
LETTER = 7.8  # pixels per character of a wide font

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """The range that an axis shows, and its ticks: (position, label)."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    label: str = ""

    @classmethod
    def of(
        cls, values: Iterable[float], label: str = "", *, low: float | None = None, form: str = "g", step: float = 0
    ) -> Axis:
        """An axis that holds the values with a margin, and round ticks.

        Args:
            values: at least one.
            label: of the axis.
            low: where it begins, instead of a little below the least value.
            form: format specification of the ticks.
            step: least distance between ticks; 1 for whole numbers.
        """
        values = list(values)
        least, most = min(values) if low is None else low, max(values)
        margin = max((most - least) * 0.06, abs(most) * 0.01, 0.001)
        least, most = least - margin if low is None else low, most + margin
        width = (most - least) / 4
        unit = 10.0 ** floor(log10(width))
        step = max(step, unit * max(factor for factor in (1, 2, 5) if factor * unit <= width))
        ticks = (round(i * step, 10) for i in range(ceil(least / step), floor(most / step) + 1))
        return cls(least, most, tuple((tick, format(tick, form)) for tick in ticks), label)

    @classmethod
    def named(cls, names: Sequence[str]) -> Axis:
        """A categorical axis: the first name at 0, the second at 1."""
        return cls(-0.5, max(len(names), 1) - 0.5, tuple((float(i), name) for i, name in enumerate(names)))


class Panel:
    """One pair of axes; later marks are drawn over earlier ones.

    Args:
        x: from left to right.
        y: from bottom to top.
        title: above the axes.
        note: a line below the title.
        size: width and height of the area within the axes, in pixels.
    """

    def __init__(self, x: Axis, y: Axis, title: str, note: str = "", *, size: tuple[int, int] = (520, 340)) -> None:
        self.x, self.y, self.title, self.note, self.size = x, y, title, note, size
        self._marks: list[str] = []
        self._legend: list[tuple[str, str, bool]] = []
        self._row_labels: list[tuple[float, str]] = []

    def at(self, x: float, y: float) -> Point:
        """Pixels from the upper left corner of the area."""
        across, up = ((value - axis.low) / (axis.high - axis.low) for value, axis in ((x, self.x), (y, self.y)))
        return across * self.size[0], (1 - up) * self.size[1]

    def line(self, points: Iterable[Point], colour: str, *, width: float = 1.5, dashed: bool = False) -> None:
        """A line through the points."""
        path = " ".join("{:.1f},{:.1f}".format(*self.at(*point)) for point in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._marks.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dash}/>')

    def point(self, x: float, y: float, colour: str, *, hollow: bool = False, radius: float = 4, tip: str = "") -> None:
        """A dot; `tip` is its tooltip."""
        self._marks.append(_dot(*self.at(x, y), colour, hollow, radius, tip))

    def bar(self, x: float, y: float, colour: str, *, tip: str = "") -> None:
        """A bar from 0 to `y`, 0.6 wide; `tip` is its tooltip."""
        left, top = self.at(x - 0.3, y)
        right, bottom = self.at(x + 0.3, 0)
        self._marks.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}" '
            f'fill="{colour}" fill-opacity="0.85">{_title(tip)}</rect>'
        )

    def text(self, x: float, y: float, text: str, *, rise: float = 6) -> None:
        """Text, centred above a point."""
        left, top = self.at(x, y)
        self._marks.append(_text(left, top - rise, text, "middle"))

    def legend(self, label: str, colour: str, *, hollow: bool = False) -> None:
        """An entry of the legend, to the right of the area."""
        self._legend.append((label, colour, hollow))

    def row_label(self, y: float, text: str) -> None:
        """Text at the right end of a row."""
        self._row_labels.append((y, text))

    def svg(self) -> tuple[float, float, str]:
        """Width, height and SVG element, with the origin in the upper left corner."""
        (width, height), top = self.size, 66.0 if self.note else 46.0
        left = 24 + LETTER * max((len(word) for _, word in self.y.ticks), default=0) + (22 if self.y.label else 0)
        right = 20 + LETTER * max((len(words) for _, words in self._row_labels), default=0)
        keys = max((34 + LETTER * len(label) for label, *_ in self._legend), default=0)
        out = [_text(-left + 16, 26 - top, self.title, "start", 'font-size="16" font-weight="600"')]
        out.append(_text(-left + 16, 46 - top, self.note, "start", f'fill="{GREY}"') if self.note else "")
        for place, word in self.x.ticks:
            x, _ = self.at(place, self.y.low)
            out.append(f'<path d="M{x:.1f} 0V{height}" stroke="{GRID}"/>{_text(x, height + 20, word, "middle")}')
        for place, word in self.y.ticks:
            _, y = self.at(self.x.low, place)
            out.append(f'<path d="M0 {y:.1f}H{width}" stroke="{GRID}"/>{_text(-10, y + 4, word, "end")}')
        out.append(_text(width / 2, height + 42, self.x.label, "middle", f'fill="{GREY}"'))
        turned = f'fill="{GREY}" transform="rotate(-90)"'
        out.append(_text(-height / 2, 26 - left, self.y.label, "middle", turned) if self.y.label else "")
        out.append(f'<path d="M0 0V{height}H{width}" fill="none" stroke="{GREY}"/>')
        out += self._marks
        out += [_text(width + 12, self.at(self.x.low, y)[1] + 4, words, "start") for y, words in self._row_labels]
        for i, (label, colour, hollow) in enumerate(self._legend):
            x, y = width + right, 10 + 22 * i
            out.append(_dot(x + 6, y, colour, hollow, 5) + _text(x + 18, y + 4, label, "start"))
        body = "\n".join(filter(None, out))
        wide = max(left + width + right + keys, 32 + LETTER * max(1.3 * len(self.title), len(self.note)))
        tall = top + height + (58 if self.x.label else 36)
        return wide, tall, f'<g transform="translate({left:.1f} {top:.1f})">\n{body}\n</g>'


def svg(title: str, *panels: Panel) -> str:
    """The panels from left to right as one file; `title` is for screen readers."""
    left, height, parts = 0.0, 0, []
    for wide, tall, part in (panel.svg() for panel in panels):
        parts.append(f'<g transform="translate({left:.1f} 0)">\n{part}\n</g>')
        left, height = left + wide, max(height, ceil(tall))
    width, body = ceil(left), "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="system-ui, sans-serif" font-size="13" fill="{INK}">\n{_title(title)}\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _title(words: str) -> str:
    return f"<title>{escape(words)}</title>" if words else ""


def _dot(x: float, y: float, colour: str, hollow: bool, radius: float, tip: str = "") -> str:
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{"#ffffff" if hollow else colour}" '
        f'stroke="{colour}" stroke-width="1.5">{_title(tip)}</circle>'
    )


def _text(x: float, y: float, words: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(words)}</text>' if words else ""
