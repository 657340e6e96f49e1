"""Everything that photodesk raises for a user to act on.

PhotodeskError            base: one sentence with the value, the expectation and the next step
├── UsageError            the call itself is wrong (exit code 2)
├── DataError             an article file, truth file or data folder cannot be used
├── PhotoError            one picture cannot be read or decoded; the rest goes on
├── EncoderError          a model is missing, damaged or not the one the data was made with
├── TranslationError      a translation model or service cannot be used or answered wrongly
├── StoreError            stored embeddings or an index are damaged, locked or of another make
│   ├── EngineDamaged    the files of an archive's engine are not what was written
│   └── ArchiveInUse      another process holds the archive; has its pid and, if it serves, its address
├── RunError              a run file or submission breaks its format
└── MissingExtra          an optional dependency is not installed; says the pip command
"""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from photodesk.types import Fate, Fault


class PhotodeskError(Exception):
    """Base of all errors for users; `str(error)` is one sentence to act on."""


class UsageError(PhotodeskError):
    """The call itself is wrong: an unknown name, a missing argument, options that exclude each other."""


class DataError(PhotodeskError):
    """An article file, a truth file or a data folder cannot be used at all."""


class PhotoError(PhotodeskError):
    """One picture cannot be read or decoded. Callers name it and go on with the others.

    Attributes:
        code: what kind of thing is wrong, as in `Fault`.
        where: what messages call the picture.
        what: what is wrong with it; continues a sentence that begins with `where`.
        advice: the next step for the user; empty if `what` says it.
    """

    def __init__(self, code: str, where: str, what: str, advice: str = "") -> None:
        super().__init__(code, where, what, advice)  # pickle makes it again from these
        self.code, self.where, self.what, self.advice = code, where, what, advice

    def __str__(self) -> str:
        return f"{self.where} {self.what}" + (f"; {self.advice}" if self.advice else "")

    def fault(self, fate: Fate = "left out", *, where: str = "", advice: str = "") -> Fault:
        """The fault that this is to someone who goes on.

        Args:
            fate: what becomes of the picture.
            where: where the fault is, if not where the error says; a content that several files hold is decoded once.
            advice: the next step, if the caller knows a better one.
        """
        from photodesk.types import Fault  # loads numpy, which `--help` can do without

        return Fault(self.code, where or self.where, self.what, fate, advice or self.advice)


class EncoderError(PhotodeskError):
    """A model is missing, damaged, or not the one that the data at hand was made with."""


class TranslationError(PhotodeskError):
    """A translation model is missing, or a translation service did not answer, or answered wrongly."""


class StoreError(PhotodeskError):
    """Stored embeddings or an index are damaged, locked, or were made by another encoder."""


class EngineDamaged(StoreError):
    """The files of an archive's engine are not what was written, so nothing opens them.

    Attributes:
        folder: with the files.
    """

    def __init__(self, folder: str | os.PathLike[str], what: str) -> None:
        super().__init__(
            f"{what}; make the engine again from the pictures with: photodesk archive verify --repair, or restore the "
            "archive from a backup: see docs/archive.md"
        )
        self.folder = os.fspath(folder)


class ArchiveInUse(StoreError):
    """Another process holds the archive.

    Attributes:
        pid: of that process; 0 if it did not say.
        url: where it answers for others; empty if it does not.
        key: what it wants to be shown there.
    """

    def __init__(self, message: str, *, pid: int = 0, url: str = "", key: str = "") -> None:
        super().__init__(message)
        self.pid, self.url, self.key = pid, url, key


class RunError(PhotodeskError):
    """A run file or a submission does not follow its format."""


class InternalError(Exception):
    """A bug of photodesk's own, met by another process; the log of that one has the traceback. No `PhotodeskError`:
    there is nothing for the user to put right."""


class MissingExtra(PhotodeskError):
    """An optional dependency is not installed."""


def one_line(error: object, length: int = 200) -> str:
    """The message of an exception of a library in one line, at most `length` characters; its class if it has none."""
    return " ".join(str(error).split())[:length] or type(error).__name__


def did_you_mean(word: str, known: Iterable[str], *, most: int = 1) -> str:
    """` (did you mean …?)` with up to `most` known words that are spelt alike, or nothing if there are none."""
    close = difflib.get_close_matches(word, list(known), most)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say how to install it.

    Args:
        module: dotted module name, such as `"torch"`.
        extra: the extra of photodesk that brings it, such as `"train"`.

    Raises:
        MissingExtra: the module is not installed; names the pip command.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtra(
            f'this needs {module}, which is not installed; run: pip install "photodesk[{extra}]"'
        ) from None


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Suppress the advice and progress bars of the library Transformers; its errors are still raised."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
