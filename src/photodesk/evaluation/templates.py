"""Text templates in data files, so that long text is not in code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from string import Template


def text(package: str, file: str) -> str:
    """A data file of a package, with `\\n` as line end on every system."""
    return (files(package) / file).read_text("utf-8").replace("\r\n", "\n")


@cache
def parts(package: str, file: str) -> Mapping[str, Template]:
    """The parts of a template file, each below a line `<!-- name -->`, without their final line ends."""
    found = re.split(r"<!-- (\w+) -->\n", text(package, file))
    return {name: Template(part.removesuffix("\n")) for name, part in zip(found[1::2], found[2::2], strict=True)}
