"""Plots as SVG, without a library: lines, points, bars and intervals on axes with round ticks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of Okabe and Ito, who chose them so that everyone can tell them apart."""
INK, GREY, GRID = "#1f2328", "#6e7781", "#e6e9ed"
LETTER = 7.8  # pixels of a character, of wide fonts

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """The range that an axis shows, and its ticks: places with what stands there."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    label: str = ""

    @classmethod
    def of(
        cls, values: Iterable[float], label: str = "", *, low: float | None = None, form: str = "g", step: float = 0
    ) -> Axis:
        """An axis that holds the values with some room, and its round ticks.

        Args:
            values: at least one.
            label: what they are.
            low: where it begins, instead of a little below the least value.
            form: of the ticks, as `format` takes it.
            step: the least distance between ticks; 1 for whole numbers.
        """
        values = list(values)
        least, most = min(values) if low is None else low, max(values)
        room = max((most - least) * 0.06, abs(most) * 0.01, 0.001)
        least, most = least - room if low is None else low, most + room
        unit = 10.0 ** floor(log10((most - least) / 4))
        step = max(step, unit * max(factor for factor in (1, 2, 5) if factor * unit <= (most - least) / 4))
        places = (round(i * step, 10) for i in range(ceil(least / step), floor(most / step) + 1))
        return cls(least, most, tuple((place, format(place, form)) for place in places), label)

    @classmethod
    def named(cls, names: Sequence[str]) -> Axis:
        """An axis of things, the first at 0, the second at 1."""
        return cls(-0.5, max(len(names), 1) - 0.5, tuple((float(i), name) for i, name in enumerate(names)))


class Panel:
    """One pair of axes. What is drawn later lies above what is drawn before.

    Args:
        x: from left to right.
        y: from the bottom up.
        title: stands above.
        note: a line below the title.
        size: width and height of the area within the axes.
    """

    def __init__(self, x: Axis, y: Axis, title: str, note: str = "", *, size: tuple[int, int] = (520, 340)) -> None:
        self.x, self.y, self.title, self.note, self.size = x, y, title, note, size
        self._marks: list[str] = []
        self._keys: list[tuple[str, str, bool]] = []
        self._beside: list[tuple[float, str]] = []

    def at(self, x: float, y: float) -> Point:
        """Pixels from the upper left corner of the area."""
        across, up = ((value - axis.low) / (axis.high - axis.low) for value, axis in ((x, self.x), (y, self.y)))
        return across * self.size[0], (1 - up) * self.size[1]

    def line(self, points: Iterable[Point], colour: str, *, width: float = 1.5, dashed: bool = False) -> None:
        """A line through the points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._marks.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dash}/>')

    def point(
        self, x: float, y: float, colour: str, *, hollow: bool = False, radius: float = 4, said: str = ""
    ) -> None:
        """A dot; `said` is shown where the mouse rests on it."""
        self._marks.append(_dot(*self.at(x, y), colour, hollow, radius, said))

    def bar(self, x: float, y: float, colour: str, *, said: str = "") -> None:
        """A bar from 0, six tenths of a step wide."""
        left, top = self.at(x - 0.3, y)
        right, bottom = self.at(x + 0.3, 0)
        self._marks.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}" '
            f'fill="{colour}" fill-opacity="0.85">{_title(said)}</rect>'
        )

    def text(self, x: float, y: float, text: str, *, rise: float = 6) -> None:
        """Words above a place."""
        left, top = self.at(x, y)
        self._marks.append(_text(left, top - rise, text, "middle"))

    def key(self, label: str, colour: str, *, hollow: bool = False) -> None:
        """What a colour stands for, to the right of the area."""
        self._keys.append((label, colour, hollow))

    def beside(self, y: float, text: str) -> None:
        """Words at the right end of a row."""
        self._beside.append((y, text))

    def drawn(self) -> tuple[float, float, str]:
        """Width, height and SVG of the whole, from its upper left corner."""
        (width, height), top = self.size, 66.0 if self.note else 46.0
        left = 24 + LETTER * max((len(word) for _, word in self.y.ticks), default=0) + (22 if self.y.label else 0)
        right = 20 + LETTER * max((len(words) for _, words in self._beside), default=0)
        right += max((34 + LETTER * len(label) for label, *_ in self._keys), default=0)
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
        out += [_text(width + 12, self.at(self.x.low, y)[1] + 4, words, "start") for y, words in self._beside]
        keyed = width + right - max((34 + LETTER * len(label) for label, *_ in self._keys), default=0)
        for i, (label, colour, hollow) in enumerate(self._keys):
            out.append(_dot(keyed + 6, 10 + 22 * i, colour, hollow, 5) + _text(keyed + 18, 14 + 22 * i, label, "start"))
        body = "\n".join(filter(None, out))
        wide = max(left + width + right, 32 + LETTER * max(1.3 * len(self.title), len(self.note)))
        tall = top + height + (58 if self.x.label else 36)
        return wide, tall, f'<g transform="translate({left:.1f} {top:.1f})">\n{body}\n</g>'


def svg(title: str, *panels: Panel) -> str:
    """The panels from left to right as one file; `title` is what a screen reader says."""
    drawn = [panel.drawn() for panel in panels]
    width, height = ceil(sum(wide for wide, _, _ in drawn)), ceil(max(tall for _, tall, _ in drawn))
    left, parts = 0.0, []
    for wide, _, part in drawn:
        parts.append(f'<g transform="translate({left:.1f} 0)">\n{part}\n</g>')
        left += wide
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" font-family="system-ui, sans-serif" font-size="13" fill="{INK}">',
            _title(title),
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _title(words: str) -> str:
    return f"<title>{escape(words)}</title>" if words else ""


def _dot(x: float, y: float, colour: str, hollow: bool, radius: float, said: str = "") -> str:
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{"#ffffff" if hollow else colour}" '
        f'stroke="{colour}" stroke-width="1.5">{_title(said)}</circle>'
    )


def _text(x: float, y: float, words: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(words)}</text>' if words else ""
