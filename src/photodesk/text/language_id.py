"""Language identification: lingua over candidate languages, each text by itself, with a confidence."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from photodesk.errors import UsageError, require
from photodesk.text_repair import encodable

# Part of every fingerprint: raise it when `detect` starts to give another output.
VERSION = 1

UNKNOWN = "unknown"

# Below this confidence a language is unknown. Of 120 titles in four languages 0.6 lets 118 through, none of them wrong;
# of their first two words alone 94 right and 1 wrong, where 0 lets through 115 and 5 (benchmarks/text.py).
THRESHOLD = 0.6


@dataclass(frozen=True, slots=True)
class Detected:
    """The language of a text.

    Args:
        language: ISO 639-1 code, or "unknown" where the confidence is below the threshold.
        best: the likeliest language, at any confidence.
        confidence: of `best` among the candidates, 0 to 1; 0 for a text without any of their letters.
    """

    language: str
    best: str
    confidence: float


def check(languages: Sequence[str]) -> None:
    """Whether `detect` can tell these languages apart.

    Raises:
        UsageError: fewer than two, a duplicate, or not a two-letter code.
    """
    if len(set(languages)) != len(languages) or len(languages) < 2:
        raise UsageError(
            f"detect={'+'.join(languages)!r}: name two or more languages to tell apart, each once, such as detect=de+en"
        )
    for code in languages:
        if not (len(code) == 2 and code.isascii() and code.isalpha() and code.islower()):
            raise UsageError(f"{code!r} is no ISO 639-1 code such as de or en")


def detect(texts: Sequence[str], languages: Sequence[str], *, threshold: float = THRESHOLD) -> tuple[Detected, ...]:
    """The language of every text, in their order. Only the models of `languages` are loaded.

    Args:
        texts: n texts of one or two words or more.
        languages: ISO 639-1 codes, two or more. A text in another language is assigned the nearest of these, or
            unknown.
        threshold: the least confidence, 0 to 1.

    Raises:
        UsageError: a code is unknown, or there are fewer than two.
        MissingExtra: lingua is not installed.
    """
    check(languages)
    detector = _detector(tuple(sorted(languages)))
    answers = []
    for values in detector.compute_language_confidence_values_in_parallel(list(map(encodable, texts))):
        # rounded: the sums' last digits differ from call to call
        code, confidence = min(
            ((v.language.iso_code_639_1.name.lower(), round(v.value, 6)) for v in values), key=lambda v: (-v[1], v[0])
        )
        answers.append(Detected(code if confidence and confidence >= threshold else UNKNOWN, code, confidence))
    return tuple(answers)


@functools.lru_cache(maxsize=4)
def _detector(languages: tuple[str, ...]) -> Any:
    lingua = require("lingua", "lang")
    codes = [getattr(lingua.IsoCode639_1, code.upper(), None) for code in languages]
    if None in codes:
        raise UsageError(f"lingua does not know the language {languages[codes.index(None)]!r}")
    return lingua.LanguageDetectorBuilder.from_iso_codes_639_1(*codes).build()
