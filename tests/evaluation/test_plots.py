"""Marks are where the figures put them, words are inside the picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from photodesk.evaluation import plots

SPACE = "{http://www.w3.org/2000/svg}"


def panel(**options):
    across = plots.Axis(0.0, 10.0, ((0.0, "0"), (10.0, "10")), "x")
    up = plots.Axis(-1.0, 1.0, ((-1.0, "-1"), (0.0, "0"), (1.0, "1")), "y")
    return plots.Panel(across, up, "Title", "note", size=(200, 100), **options)


def drawn(*panels):
    return ET.fromstring(plots.svg("all", *panels))


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=5))
def test_axes_hold_their_values_and_have_a_handful_of_ticks(values):
    made = plots.Axis.of(values)
    assert made.low < min(values) <= max(values) < made.high
    assert 2 <= len(made.ticks) <= 12
    assert all(made.low - 1e-9 <= place <= made.high + 1e-9 for place, _ in made.ticks)
    assert all(float(word) == pytest.approx(place, rel=1e-4, abs=1e-6) for place, word in made.ticks)


def test_an_axis_begins_where_it_is_told_and_counts_whole_epochs():
    assert plots.Axis.of([0.3], low=0.0).ticks[0] == (0.0, "0")
    assert [word for _, word in plots.Axis.of([0, 1, 2], step=1).ticks] == ["0", "1", "2"]
    assert plots.Axis.named(["a", "b"]).ticks == ((0.0, "a"), (1.0, "b"))


def test_marks_are_where_the_figures_put_them():
    one = panel()
    one.point(0, -1, "#123456", tip="a < b")
    one.point(10, 1, "#123456", hollow=True)
    one.bar(5, 0.5, "#654321")
    one.line([(0, 0), (10, -1)], "#000000")
    root = drawn(one)
    low, high = root.iter(f"{SPACE}circle")
    assert (low.get("cx"), low.get("cy"), low.get("fill")) == ("0.0", "100.0", "#123456")
    assert (high.get("cx"), high.get("cy"), high.get("fill")) == ("200.0", "0.0", "#ffffff")
    assert low[0].text == "a < b"
    _, bar = root.iter(f"{SPACE}rect")  # the first is the ground
    assert [bar.get(name) for name in ("x", "y", "width", "height")] == ["94.0", "25.0", "12.0", "25.0"]
    assert next(root.iter(f"{SPACE}polyline")).get("points") == "0.0,50.0 200.0,100.0"


def test_panels_stand_side_by_side_and_hold_their_words():
    one, other = panel(), panel()
    other.row_label(0, "+0.1234")
    other.legend("a rather long name of a thing", "#000000")
    root = drawn(one, other)
    alone = float(drawn(one).get("width"))
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
    groups = [part for part in root if part.tag == f"{SPACE}g"]
    second = float(groups[1].get("transform").partition("(")[2].split()[0])
    assert alone - 1 <= second <= alone  # the width of one, not rounded up
    for part in groups:
        left = float(part.get("transform").partition("(")[2].split()[0])
        left += float(part[0].get("transform").partition("(")[2].split()[0])
        for words in part.iter(f"{SPACE}text"):
            if words.get("text-anchor") == "start":
                assert left + float(words.get("x")) >= 0
                assert left + float(words.get("x")) + 7 * len(words.text) <= float(root.get("width"))
