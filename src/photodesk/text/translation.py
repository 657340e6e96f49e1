"""Translate texts sentence by sentence, in batches by length, and never the same sentence twice: results are kept on
disk."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from photodesk.errors import TranslationError
from photodesk.files import as_store_error, cache_folder, digest
from photodesk.text import proper_names
from photodesk.text.translators import Translator
from photodesk.types import Progress, silent

# Part of every fingerprint: raise it when the same translator starts to give another text.
VERSION = 1

_NOTHING: tuple[tuple[str, str], ...] = ()

SENTENCES = 64  # a call brings no more than these
GIVE_UP = 3  # failed calls in a row, after which the rest is not asked for

# possessive: a hundred thousand exclamation marks are read once
_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'»«”“’)\]]*+\s")
_OPENING = "\"'„»«“‚(["
_CLAUSE = re.compile(r"(?<=[,;:–—])\s+")
# A point behind these ends no sentence.
_SHORTENED = frozenset(
    [
        "abs",
        "allg",
        "art",
        "bd",
        "bzw",
        "ca",
        "col",
        "d.h",
        "dr",
        "e.g",
        "etc",
        "evtl",
        "exkl",
        "fr",
        "geb",
        "gen",
        "gest",
        "ggf",
        "gov",
        "hl",
        "hr",
        "i.e",
        "inkl",
        "jr",
        "lt",
        "max",
        "mio",
        "mrd",
        "mr",
        "mrs",
        "ms",
        "nr",
        "o.ä",
        "prof",
        "rep",
        "s.o",
        "sen",
        "sept",
        "sog",
        "sr",
        "st",
        "std",
        "str",
        "tel",
        "u.a",
        "u.s",
        "usw",
        "v.a",
        "vgl",
        "vs",
        "z.b",
        "zzgl",
        "jan",
        "feb",
        "mär",
        "apr",
        "aug",
        "sep",
        "okt",
        "oct",
        "nov",
        "dez",
        "dec",
    ]
)


@dataclass(frozen=True, slots=True)
class Translated:
    """What became of n texts.

    Args:
        texts: n texts in their order; one that could not be translated is the original.
        done: n times whether the text is a translation.
        failures: n times why it is not, empty if nothing went wrong.
        changes: n times the names that were put back, as (changed, as it was).
    """

    texts: tuple[str, ...]
    done: tuple[bool, ...]
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

    Sentences that were translated before, by the same model, come from the cache on disk; what is new goes there batch
    by batch, so that a stopped run goes on where it was.

    Args:
        texts: n texts of any number of sentences.
        translator: from `translators.load`.
        source: ISO 639-1; empty if not known.
        keep_names: put back names that the translation changed (`names.keep`).
        keep_going: leave the originals where the translator fails, instead of raising. After three failures in a row
            the translator is not asked again.
        progress: called with ("sentences", sentences done, sentences to do).

    Raises:
        TranslationError: the translator failed, and `keep_going` is not set.
        StoreError: the cache cannot be used.
    """
    texts = [_encodable(text) for text in texts]
    split = [[piece for sentence in sentences(text) for piece in fit(sentence, translator)] for text in texts]
    wanted = list(dict.fromkeys(piece for pieces in split for piece in pieces))
    with _Cache(translator.fingerprint, source) as cache:
        known = cache.read(wanted)
        failed = _fill(
            known, [piece for piece in wanted if piece not in known], translator, source, cache, keep_going, progress
        )
    out, changes, failures = [], [], []
    for text, pieces in zip(texts, split, strict=True):
        trouble = next((failed[piece] for piece in pieces if piece in failed), "")
        whole, changed = text, _NOTHING
        if not trouble:
            whole = " ".join(known[piece] for piece in pieces)
            if keep_names:
                whole, changed = proper_names.keep(text, whole, source or translator.source, translator.target)
        out.append(whole)
        changes.append(changed)
        failures.append(trouble)
    return Translated(tuple(out), tuple(not failure for failure in failures), tuple(failures), tuple(changes))


def sentences(text: str) -> list[str]:
    """The sentences of a text, in their order; joined by blanks they are its words."""
    text = " ".join(_encodable(text).split())
    found, start = [], 0
    for end in _END.finditer(text):
        after = text[end.end() : end.end() + 3].lstrip(_OPENING)[:1]
        last = text[start : end.start()].rpartition(" ")[2].lstrip(_OPENING).lower()
        if (
            end[0][0] == "."
            and end[0][1] != "."
            and (last in _SHORTENED or len(last) == 1 or (last.isdigit() and len(last) < 3))
        ):
            continue
        if after.isupper() or after.isdigit():
            found.append(text[start : end.end() - 1])
            start = end.end()
    return [*found, text[start:]] if text[start:] else found


def enough(text: str, max_words: int) -> str:
    """As many of the first sentences as hold twice `max_words` words, so that no more is translated than is read; 0 is
    all.

    Twice, because a translation may have fewer words: one of half the length has not been seen in German, Dutch or
    French.
    """
    if not max_words:
        return text
    taken, count = [], 0
    for sentence in sentences(text):
        if count >= 2 * max_words:
            break
        taken.append(sentence)
        count += len(sentence.split())
    return " ".join(taken)


def fit(sentence: str, translator: Translator) -> Iterator[str]:
    """A sentence in pieces that the translator can take: whole, else by clauses, else by words, else by characters."""
    if translator.measure(sentence) <= translator.limit:
        yield sentence
        return
    parts = _CLAUSE.split(sentence)
    if len(parts) == 1:
        parts = sentence.split()
    if len(parts) == 1:
        middle = len(sentence) // 2
        parts = [sentence[:middle], sentence[middle:]]
        if not middle:
            return  # one sign that is too much; nothing can be done with it
        yield from fit(parts[0], translator)
        yield from fit(parts[1], translator)
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
    """Sentences of like length together, the number times the longest within `budget`, at most 64."""
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
    """Translate what is missing into `known` and the cache; returns why for each sentence that failed."""
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
        done = {sentence: " ".join(_encodable(answer).split()) for sentence, answer in zip(batch, answers, strict=True)}
        failed |= dict.fromkeys(
            (sentence for sentence, answer in done.items() if not answer), "the translation is empty"
        )
        done = {sentence: answer for sentence, answer in done.items() if answer}
        cache.write(done)
        known |= done
        progress("sentences", len(known) + len(failed), total)
    return failed


def _encodable(text: str) -> str:
    """Lone surrogates, which no file and no model takes, become question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class _Cache:
    """Translations on disk, by model, source language and sentence. A batch is written whole or not at all."""

    def __init__(self, fingerprint: str, source: str) -> None:
        self._path = cache_folder() / "translations.sqlite"
        self._model = f"{VERSION} {fingerprint} {source}"

    def __enter__(self) -> _Cache:
        with self._named():
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
        """The translations that are there."""
        known = {}
        with self._named():
            for sentence in wanted:
                if row := self._base.execute(
                    "SELECT text FROM translations WHERE key = ?", (self._key(sentence),)
                ).fetchone():
                    known[sentence] = str(row[0])
        return known

    def write(self, done: dict[str, str]) -> None:
        """Keep new translations."""
        with self._named(), self._base:
            self._base.executemany(
                "INSERT OR REPLACE INTO translations VALUES (?, ?)", [(self._key(s), text) for s, text in done.items()]
            )

    def _named(self) -> contextlib.AbstractContextManager[None]:
        what = f"the cache of translations {self._path} cannot be used"
        advice = "delete it if it is damaged, or name another folder in $PHOTODESK_CACHE"
        return as_store_error(what, advice, sqlite3.Error)
