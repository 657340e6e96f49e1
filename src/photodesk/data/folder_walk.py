"""What below a folder is a picture of somebody: one walk, with one rule of what is left out, for archives, indexes and
data sets.

Left out are what systems, NAS boxes and programs keep for themselves (`DEFAULTS`), whatever a `.photodeskignore` in a
folder names for what is below it, and patterns that were given. The last two are read as `.gitignore` is, by pathspec,
and may bring back with `!` what the defaults leave out.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import translate
from pathlib import Path
from typing import TYPE_CHECKING

from photodesk.errors import UsageError
from photodesk.images import FORMATS
from photodesk.types import Fault

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".photodeskignore"

ARCHIVE = "archive.sqlite"
"""The file by which a folder is an archive."""

DEFAULTS = (
    # NAS boxes
    "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@__thumb", "@tmp", "network trash folder",
    "temporary items",
    # Windows
    "$recycle.bin", "recycler", "recycled", "system volume information", "found.[0-9][0-9][0-9]", "thumbs.db",
    "ehthumbs*.db", "desktop.ini",
    # macOS and Linux; hidden names among them .Trash, .DS_Store, .Spotlight-V100 and AppleDouble's ._*
    "__macosx", "icon\r", "lost+found", "._*", ".ds_store", ".trash*", ".*",
    # locks of Microsoft Office
    "~$*",
    # previews that photo programs keep
    "*.lrdata", "*.lrprev", "*.lrcat-data", "*.cocatalog", "*.cosessiondb", "captureone",
)  # fmt: skip
"""Names of files and folders that are left out, as patterns of lower case."""

_DEFAULT = [(pattern, re.compile(translate(pattern))) for pattern in DEFAULTS]
_ANY_DEFAULT = re.compile("|".join(translate(pattern) for pattern in DEFAULTS))

Left = Counter[tuple[str, str, str]]
"""(folder, code of a fault, pattern or suffix) → how many files and folders were left out there for it."""


def by_default(name: str) -> str:
    """The pattern of `DEFAULTS` that leaves out files and folders of this name; empty if there is none."""
    low = name.casefold()
    if not _ANY_DEFAULT.match(low):
        return ""
    return next(pattern for pattern, expression in _DEFAULT if expression.match(low))


class Rules:
    """What is left out below a root.

    Args:
        root: the folder that patterns begin at.
        patterns: as lines of a `.gitignore`; they come before those of files.
        faults: lines of ignore files that cannot be read are added here.

    Raises:
        UsageError: a pattern is none.
    """

    def __init__(self, root: Path, patterns: Iterable[str] = (), faults: list[Fault] | None = None) -> None:
        self.root, self._faults = str(root), [] if faults is None else faults
        self._given = self._spec(patterns, "")
        self._files: dict[str, tuple[GitIgnoreSpec, list[str]]] = {}

    def enter(self, folder: str) -> None:
        """Read the ignore file of a folder, if there is one; before anything in it is asked for."""
        path = Path(folder, IGNORE_FILE)
        try:
            text = path.read_bytes().decode("utf-8-sig", "surrogateescape") if path.is_file() else ""
        except OSError as error:
            what = f"cannot be read: {error.strerror}"
            self._faults.append(Fault("folder-ignore", str(path), what, "left out", "check its permissions"))
            return
        if spec := self._spec(text.splitlines(), str(path)):
            self._files[folder] = spec

    def above(self, folder: Path) -> str:
        """Read the ignore files from the root down to above a folder; the pattern that leaves out the folder, or one
        above it, if there is any."""
        parts = folder.relative_to(self.root).parts
        for depth in range(len(parts)):
            base = os.path.join(self.root, *parts[:depth])  # noqa: PTH118  as os.walk names it
            self.enter(base)
            if pattern := self.excludes(base, parts[depth], folder=True):
                return pattern
        return ""

    def excludes(self, base: str, name: str, *, folder: bool = False) -> str:
        """The pattern that leaves out a file or folder in a folder `base` that is not left out; empty if it stays."""
        path = f"{base.rstrip('/')}/{name}" + "/" * folder
        if self._given and (pattern := _matched(self._given, path[len(self.root.rstrip("/")) + 1 :])) is not None:
            return pattern
        above = base
        while self._files:
            if above in self._files:
                pattern = _matched(self._files[above], path[len(above.rstrip("/")) + 1 :])
                if pattern is not None:
                    return pattern
            if above == self.root or above == os.path.dirname(above):  # noqa: PTH120  as above
                break
            above = os.path.dirname(above)  # noqa: PTH120  as above
        return by_default(name)

    def _spec(self, lines: Iterable[str], file: str) -> tuple[GitIgnoreSpec, list[str]] | None:
        numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
        if not numbered:
            return None
        from pathspec import GitIgnoreSpec

        good = []
        for number, line in numbered:
            try:
                GitIgnoreSpec.from_lines([line])
                good.append(line)
            except ValueError as error:
                if not file:
                    raise UsageError(
                        f"--exclude {line!r} is no pattern: {error}; write it as in a .gitignore"
                    ) from None
                what = f"is no pattern: {line[:60]!r}"
                self._faults.append(
                    Fault("folder-ignore", f"{file}:{number}", what, "left out", "write it as in a .gitignore")
                )
        return GitIgnoreSpec.from_lines(good), good


def _matched(spec: tuple[GitIgnoreSpec, list[str]], path: str) -> str | None:
    """The pattern that leaves out a path; empty if one brings it back, None if none says anything."""
    found = spec[0].check_file(path)
    if found.include is None or found.index is None:
        return None
    return spec[1][found.index].strip() if found.include else ""


def walk(rules: Rules, folder: Path, faults: list[Fault], left: Left) -> Iterator[tuple[str, list[str]]]:
    """Folders below one and the names of the files in them that are not left out, both sorted. Links to folders are not
    followed, and archives not entered; both are named.

    Args:
        rules: of the root that `folder` is or lies below.
        folder: absolute.
        faults: what is wrong is added here.
        left: what is left out is counted here.
    """
    if folder != Path(rules.root) and (pattern := rules.above(folder)):
        left[str(folder), "file-excluded", pattern] += 1
        return

    def unreadable(error: OSError) -> None:
        what = f"folder cannot be read: {error.strerror}"
        faults.append(Fault("folder-unreadable", str(error.filename), what, "left out", "check its permissions"))

    for base, below, names in os.walk(folder, onerror=unreadable):
        if ARCHIVE in names:
            below.clear()
            what = "holds an archive of photodesk, whose thumbnails are no pictures of yours"
            faults.append(Fault("folder-archive", base, what, "left out"))
            continue
        if IGNORE_FILE in names:
            rules.enter(base)
        kept = []
        for name in sorted(below):
            if pattern := rules.excludes(base, name, folder=True):
                left[base, "file-excluded", pattern] += 1
            elif os.path.islink(os.path.join(base, name)):  # noqa: PTH114, PTH118  a hundred thousand folders
                link = os.path.join(base, name)  # noqa: PTH118
                faults.append(Fault("folder-link", link, "is a link to a folder", "left out", "add that folder itself"))
            else:
                kept.append(name)
        below[:] = kept
        files = []
        for name in sorted(names):
            if name == IGNORE_FILE:
                continue
            if pattern := rules.excludes(base, name):
                left[base, "file-excluded", pattern] += 1
            else:
                files.append(name)
        yield base, files


def originals(names: Iterable[str]) -> dict[str, str]:
    """RAW → the picture that the camera wrote next to it, of the same name: both are one photo, with its pixels."""
    raws = [name for name in names if Path(name).suffix.lower() in FORMATS["RAW"]]
    if not raws:
        return {}
    shown = {
        Path(name).stem.casefold(): name
        for kind in ("HEIF", "JPEG")  # a JPEG comes before a HEIF
        for name in sorted(names, reverse=True)
        if Path(name).suffix.lower() in FORMATS[kind]
    }
    return {raw: shown[stem] for raw in raws if (stem := Path(raw).stem.casefold()) in shown}


def named(folder: Path | str, left: Left) -> list[Fault]:
    """Faults that say what was left out by rule, one for each pattern."""
    counts: Counter[str] = Counter()
    for (_, code, pattern), count in left.items():
        if code == "file-excluded":
            counts[pattern] += count
    return [excluded(str(folder), pattern, count) for pattern, count in sorted(counts.items())]


def excluded(where: str, pattern: str, count: int) -> Fault:
    """The fault that says how many files and folders a pattern left out."""
    what = f"{count:,} files or folders are left out by the pattern {pattern}"
    return Fault("file-excluded", where, what, "left out")


def filtered(names: Sequence[str], base: str, patterns: Iterable[str], left: Left) -> list[str]:
    """Of the paths or URLs of files below a base that nobody walked, those that are not left out; others stay."""
    rules, kept = Rules(Path("/"), patterns), []
    for name in names:
        parts = name.removeprefix(base).strip("/").split("/") if name.startswith(base) else []
        found = (
            rules.excludes("/" + "/".join(parts[:depth]), part, folder=depth < len(parts) - 1)
            for depth, part in enumerate(parts)
        )
        if pattern := next(filter(None, found), ""):
            left[base, "file-excluded", pattern] += 1
        else:
            kept.append(name)
    return kept
