"""Translate texts sentence by sentence, in batches by length; translations are cached on disk."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import accumulate

from photodesk.errors import TranslationError
from photodesk.files import as_store_error, cache_folder, digest
from photodesk.text import proper_names
from photodesk.text.translators import Translator
from photodesk.text_repair import encodable
from photodesk.types import Progress, silent

# Part of every fingerprint: raise it when the same translator starts to give another text.
VERSION = 1

SENTENCES = 64  # of one call at most
GIVE_UP = 3  # failed calls in a row after which the translator is not called again

# possessive quantifiers: linear time on a hundred thousand exclamation marks
_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'»«”“’)\]]*+\s")
_OPENING = "\"'„»«“‚(["
_CLAUSE = re.compile(r"(?<=[,;:–—])\s+")
# A period after these ends no sentence.
_ABBREVIATIONS = frozenset((resources.files("photodesk.text") / "abbreviations.txt").read_text("utf-8").split())


@dataclass(frozen=True, slots=True)
class Translated:
    """The results for n texts.

    Args:
        texts: n texts in their order; one that could not be translated is the original.
        failures: n reasons why a text is not translated; empty if it is.
        changes: for each text the names restored, as (in the translation, in the original).
    """

    texts: tuple[str, ...]
    failures: tuple[str, ...]
    changes: tuple[tuple[tuple[str, str], ...], ...]


def translate(
    texts: Sequence[str],
    translator: Translator,
    *,
    source: str = "",
    keep_names: bool = False,
    keep_going: bool = False,
    progress: Progress = silent,
) -> Translated:
    """Translate `texts`, all in language `source`.

    Sentences that the same model has translated before come from the cache on disk; new ones are added batch by batch,
    so that an interrupted run resumes.

    Args:
        texts: n texts of any number of sentences.
        translator: from `translators.load`.
        source: ISO 639-1; empty if not known.
        keep_names: restore names that the translation changed (`proper_names.keep`).
        keep_going: keep the originals where the translator fails, instead of raising. After `GIVE_UP` failures in a row
            the translator is not called again.
        progress: called with ("sentences", sentences done, sentences to translate).

    Raises:
        TranslationError: the translator failed, and `keep_going` is not set.
        StoreError: the cache cannot be used.
    """
    texts = [encodable(text) for text in texts]
    split = [[piece for sentence in sentences(text) for piece in fit(sentence, translator)] for text in texts]
    wanted = list(dict.fromkeys(piece for pieces in split for piece in pieces))
    with _Cache(translator.fingerprint, source) as cache:
        known = cache.read(wanted)
        failed = _fill(
            known, [piece for piece in wanted if piece not in known], translator, source, cache, keep_going, progress
        )
    out: list[str] = []
    changes: list[tuple[tuple[str, str], ...]] = []
    failures: list[str] = []
    for text, pieces in zip(texts, split, strict=True):
        failures.append(next((failed[piece] for piece in pieces if piece in failed), ""))
        out.append(text if failures[-1] else " ".join(known[piece] for piece in pieces))
        changes.append(())
        if keep_names and not failures[-1]:
            out[-1], changes[-1] = proper_names.keep(text, out[-1], source or translator.source, translator.target)
    return Translated(tuple(out), tuple(failures), tuple(changes))


def sentences(text: str) -> list[str]:
    """The sentences of a text in order; joined by spaces they are its words."""
    text = " ".join(encodable(text).split())
    found, start = [], 0
    for end in _END.finditer(text):
        after = text[end.end() : end.end() + 3].lstrip(_OPENING)[:1]
        last = text[start : end.start()].rpartition(" ")[2].lstrip(_OPENING).lower()
        if (
            end[0][0] == "."
            and end[0][1] != "."
            and (last in _ABBREVIATIONS or len(last) == 1 or (last.isdigit() and len(last) < 3))
        ):
            continue
        if after.isupper() or after.isdigit():
            found.append(text[start : end.end() - 1])
            start = end.end()
    return [*found, text[start:]] if text[start:] else found


def enough(text: str, max_words: int) -> str:
    """The first sentences with at least twice `max_words` words together, so that no more is translated than is read;
    0 is all.

    Twice, because a translation may have fewer words: one of half the length has not been seen in German, Dutch or
    French.
    """
    if not max_words:
        return text
    parts = sentences(text)
    before = accumulate((len(part.split()) for part in parts), initial=0)
    return " ".join(part for part, count in zip(parts, before, strict=False) if count < 2 * max_words)


def fit(sentence: str, translator: Translator) -> Iterator[str]:
    """A sentence in parts within the translator's limit: whole, else by clauses, else by words, else by characters."""
    if translator.measure(sentence) <= translator.limit:
        yield sentence
        return
    parts = _CLAUSE.split(sentence)
    if len(parts) == 1:
        parts = sentence.split()
    if len(parts) == 1:
        middle = len(sentence) // 2
        if middle:  # a single character above the limit is dropped
            yield from fit(sentence[:middle], translator)
            yield from fit(sentence[middle:], translator)
        return
    held = ""
    for part in parts:
        longer = f"{held} {part}" if held else part
        if held and translator.measure(longer) > translator.limit:
            yield from fit(held, translator)
            longer = part
        held = longer
    yield from fit(held, translator)


def batches(lengths: Sequence[tuple[int, str]], budget: int) -> Iterator[list[str]]:
    """Sentences grouped by length: their number times the longest is within `budget`, and at most `SENTENCES`."""
    batch: list[str] = []
    for length, sentence in sorted(lengths):
        if batch and ((len(batch) + 1) * length > budget or len(batch) == SENTENCES):
            yield batch
            batch = []
        batch.append(sentence)
    if batch:
        yield batch


def _fill(
    known: dict[str, str],
    missing: Sequence[str],
    translator: Translator,
    source: str,
    cache: _Cache,
    keep_going: bool,
    progress: Progress,
) -> dict[str, str]:
    """Add translations of `missing` to `known` and the cache; returns the reason for each sentence that failed."""
    failed: dict[str, str] = {}
    total, in_a_row = len(known) + len(missing), 0
    for batch in batches([(translator.measure(sentence), sentence) for sentence in missing], translator.budget):
        try:
            if in_a_row >= GIVE_UP:
                raise TranslationError(f"not asked for after {GIVE_UP} failures in a row")
            answers = translator.translate(batch, source)
            if len(answers) != len(batch):
                raise TranslationError(f"{len(answers)} translations came for {len(batch)} sentences")
            in_a_row = 0
        except TranslationError as error:
            if not keep_going:
                raise
            in_a_row += 1
            failed |= dict.fromkeys(batch, str(error))
            continue
        done = {sentence: " ".join(encodable(answer).split()) for sentence, answer in zip(batch, answers, strict=True)}
        for sentence in [sentence for sentence, answer in done.items() if not answer]:
            del done[sentence]
            failed[sentence] = "the translation is empty"
        cache.write(done)
        known |= done
        progress("sentences", len(known) + len(failed), total)
    return failed


class _Cache:
    """Translations on disk, keyed by model, source language and sentence. A batch is one transaction."""

    def __init__(self, fingerprint: str, source: str) -> None:
        self._path = cache_folder() / "translations.sqlite"
        self._model = f"{VERSION} {fingerprint} {source}"

    def __enter__(self) -> _Cache:
        with self._errors():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(self._path, timeout=60)
            with self._base:
                self._base.execute(
                    "CREATE TABLE IF NOT EXISTS translations (key BLOB PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID"
                )
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    def _key(self, sentence: str) -> bytes:
        return digest(f"{self._model}\0{sentence}".encode("utf-8", "surrogatepass"))

    def read(self, wanted: Sequence[str]) -> dict[str, str]:
        query = "SELECT text FROM translations WHERE key = ?"
        with self._errors():
            rows = {sentence: self._base.execute(query, (self._key(sentence),)).fetchone() for sentence in wanted}
        return {sentence: str(row[0]) for sentence, row in rows.items() if row}

    def write(self, done: dict[str, str]) -> None:
        with self._errors(), self._base:
            self._base.executemany(
                "INSERT OR REPLACE INTO translations VALUES (?, ?)", [(self._key(s), text) for s, text in done.items()]
            )

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        what = f"the cache of translations {self._path} cannot be used"
        advice = "delete it if it is damaged, or name another folder in $PHOTODESK_CACHE"
        return as_store_error(what, advice, sqlite3.Error)
