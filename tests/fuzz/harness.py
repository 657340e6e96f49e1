"""What all fuzz targets share: how many examples, what an example may cost, and how bytes and JSON are damaged.

`make fuzz` tries many examples for each target; without it, as in `make test`, there are few and always the same ones.
"""

from __future__ import annotations

import contextlib
import copy
import os
import resource
import signal
import sys

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from photodesk.errors import PhotodeskError

settings.register_profile("few", max_examples=40, derandomize=True, database=None)
settings.register_profile("fuzz", max_examples=int(os.environ.get("FUZZ_EXAMPLES", "5000")))
fuzzed = settings(
    settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "few")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
"""Decorates each target."""

SECONDS, MEGABYTES = 60, 600


class UnboundedError(BaseException):
    """An example takes too long; no reader catches it."""


@contextlib.contextmanager
def contained():
    """What a reader does inside ends by itself, costs bounded time and memory, and raises nothing but what users are
    meant to see."""

    def stop(*_):
        raise UnboundedError(f"still at it after {SECONDS} seconds")

    before = _peak()
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    except PhotodeskError as error:
        assert str(error)  # noqa: PT017
    finally:
        signal.alarm(0)
    assert _peak() - before < MEGABYTES


def _peak():
    """Megabytes that the process had at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


NUMBERS = [b"\0" * 4, b"\xff" * 4, b"\x7f" + b"\xff" * 3, b"\xff" * 3 + b"\x7f", b"\x80" + b"\0" * 7, b"\xff" * 8]


class Shown(bytes):
    """Bytes whose message stays short where an example fails; to have them whole, write them to a file."""

    def __repr__(self):
        return f"<{len(self)} bytes: {bytes(self[:600])!r}>"


@st.composite
def damaged(draw, whole):
    """The bytes with one to six damages."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["byte", "number", "bytes", "insert", "delete", "repeat", "cut"])):
            case "byte":
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case "number":
                number = draw(st.sampled_from(NUMBERS))
                data[at : at + len(number)] = number
            case "bytes":
                other = draw(st.binary(max_size=16))
                data[at : at + len(other)] = other
            case "insert":
                data[at:at] = draw(st.binary(max_size=64))
            case "delete":
                del data[at : at + draw(st.integers(1, 64))]
            case "repeat":
                data[at:at] = data[at : at + 64] * draw(st.integers(1, 64))
            case "cut":
                del data[at:]
    return Shown(data)


SCALARS = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        -1,
        3,
        2**31,
        2**63,
        2**70,
        -(2**70),
        0.5,
        1e308,
        float("inf"),
        float("-inf"),
        float("nan"),
    ]
) | st.sampled_from(["", "x", "../x", "Infinity", "\0", "\ud800", "ü", "1", "<f2", "float32", "object"])
VALUES = SCALARS | st.sampled_from([[], {}, [[]], [{}], [1], [None], {"a": 1}, {"": {}}, [1, 2, 3, 4], ["x", "y"]])


@st.composite
def altered(draw, document):
    """A JSON document in which one to three values became others, or are gone."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document))
        if not places:
            break
        parent, key = draw(st.sampled_from(places))
        if draw(st.booleans()) and draw(st.booleans()):
            del parent[key]
        else:
            parent[key] = copy.deepcopy(draw(VALUES))  # else it could come to hold itself
    return document


def _places(value):
    """(container, key) of everything in a document."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


DEEP = [Shown(b"[" * 100_000), Shown(b'{"a":' * 100_000)]
