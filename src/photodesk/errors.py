"""Everything that photodesk raises for a user to act on.

PhotodeskError            base: one sentence with the value, the expectation and the next step
├── UsageError            the call itself is wrong (exit code 2)
├── DataError             an article file, truth file or data folder cannot be used
├── PhotoError            one picture cannot be decoded; the rest goes on
├── EncoderError          a model is missing, damaged or not the one the data was made with
├── TranslationError      a translation model or service cannot be used or answered wrongly
├── StoreError            stored embeddings or an index are damaged, locked or of another make
│   └── ArchiveInUse      another process holds the archive; has its pid and, if it serves, its address
├── RunError              a run file or submission breaks its format
└── MissingExtra          an optional dependency is not installed; says the pip command
"""

import importlib
from types import ModuleType


class PhotodeskError(Exception):
    """Base of all errors for users; `str(error)` is one sentence to act on."""


class UsageError(PhotodeskError):
    """The call itself is wrong: an unknown name, a missing argument, options that exclude each other."""


class DataError(PhotodeskError):
    """An article file, a truth file or a data folder cannot be used at all."""


class PhotoError(PhotodeskError):
    """One picture cannot be decoded. Callers name it and go on with the others."""


class EncoderError(PhotodeskError):
    """A model is missing, damaged, or not the one that the data at hand was made with."""


class TranslationError(PhotodeskError):
    """A translation model is missing, or a translation service did not answer, or answered wrongly."""


class StoreError(PhotodeskError):
    """Stored embeddings or an index are damaged, locked, or were made by another encoder."""


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


class MissingExtra(PhotodeskError):
    """An optional dependency is not installed."""


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
