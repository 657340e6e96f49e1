"""Turn articles into the texts that an encoder reads: one frozen Preparation, its steps always in the same order.

fields → detect (`language_id`) → translate (`translation`, `translators/`, `proper_names`) → clean (`cleaning`,
`spelling`) → max_words.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from dataclasses import fields as dataclass_fields
from importlib import metadata
from typing import Any

from photodesk.errors import MissingExtra, UsageError, did_you_mean
from photodesk.text import cleaning, language_id, spelling, translators
from photodesk.text.language_id import UNKNOWN
from photodesk.text_repair import encodable, mend
from photodesk.types import Article, Fault, Progress, silent

# Part of every fingerprint: raise it when a step here starts to give another output.
VERSION = 2

FIELDS = ("title", "lead", "text", "tags")
CLEANINGS = ("2021", "ekphrasis")

_NAMED = re.compile(r"\s*Preparation\((.*)\)\s*", re.DOTALL)
_COMMA = re.compile(r",\s*(?=\w+\s*=)")


def normalise(text: str) -> str:
    """One line of NFC without soft hyphens, odd spaces, control characters, lone surrogates or double encoding."""
    text = encodable(text)
    for _ in range(8):  # a repair can expose the next fault
        text, before = mend(text)[0], text
        if text == before:
            break
    return text


def join_fields(article: Article, names: Sequence[str]) -> str:
    """The named fields of an article that are not empty, joined by a space."""
    return " ".join(part for name in names if (part := normalise(getattr(article, name))))


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a Preparation makes of n articles.

    Args:
        texts: n texts, in the order of the articles.
        languages: n ISO 639-1 codes of those texts; "unknown" where detection was unsure, empty without detection.
        notes: unknown languages, texts left untranslated, names restored.
        confidences: n confidences of the detection, 0 to 1; empty without detection.
    """

    texts: tuple[str, ...]
    languages: tuple[str, ...]
    notes: tuple[Fault, ...] = ()
    confidences: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Preparation:
    """How articles become texts. A value that prints as it parses: `parse(str(p)) == p`.

    Args:
        fields: which fields of an article are read, in that order.
        detect: candidate languages, two or more ISO 639-1 codes; empty leaves the articles' own.
        threshold: the least confidence of the detection, 0 to 1; below it the language is unknown.
        translate: a translator as `translators.load` reads it; empty for none. Articles already in its target language,
            in one it does not read, or in an unknown one are not translated.
        keep_names: restore names that the translation changed.
        clean: "2021" or "ekphrasis"; empty for none. Where no language is known it takes English, as the paper does.
        max_words: how many words are kept; 0 keeps all.

    Raises:
        UsageError: an invalid value.
    """

    fields: tuple[str, ...] = ("title",)
    detect: tuple[str, ...] = ()
    threshold: float = language_id.THRESHOLD
    translate: str = ""
    keep_names: bool = False
    clean: str = ""
    max_words: int = 0

    def __post_init__(self) -> None:
        for name in ("fields", "detect"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.fields or len(set(self.fields)) != len(self.fields):
            raise UsageError(f"fields={'+'.join(self.fields)!r}: name one or more of {', '.join(FIELDS)}, each once")
        for name in self.fields:
            if name not in FIELDS:
                hint = did_you_mean(name, FIELDS)
                raise UsageError(f"an article has no field {name!r}{hint}; known: {', '.join(FIELDS)}")
        if self.detect:
            language_id.check(self.detect)
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"threshold={self.threshold:g}: a confidence lies between 0 and 1")
        if self.translate:
            translators.check(self.translate)
            if self.translate != self.translate.strip() or _COMMA.search(self.translate):
                raise UsageError(
                    f"translate={self.translate!r} cannot be told from the keys around it; rename the folder"
                )
        if self.keep_names and not self.translate:
            raise UsageError("keep_names=yes needs a translate=…")
        if self.clean and self.clean not in CLEANINGS:
            raise UsageError(
                f"clean={self.clean!r}{did_you_mean(self.clean, CLEANINGS)}: expected none, {' or '.join(CLEANINGS)}"
            )
        if self.max_words < 0:
            raise UsageError(f"max_words={self.max_words}: 0 keeps all words, any other limit is above 0")

    def __str__(self) -> str:
        shown = []
        for field in dataclass_fields(self):
            value = getattr(self, field.name)
            if value != field.default or field.name == "fields":
                shown.append(f"{field.name}={_print(value)}")
        return f"Preparation({', '.join(shown)})"

    @property
    def fingerprint(self) -> str:
        """Changes whenever the texts may; part of every cache key of embeddings. Loads the translator, if any.

        Raises:
            MissingExtra: a step's library is not installed.
            TranslationError: the translation model is not on this machine.
        """
        parts: list[object] = [self, VERSION]
        if self.detect:
            parts += [language_id.VERSION, _version("lingua-language-detector", "lang")]
        if self.translate:
            from photodesk.text import proper_names, translation

            parts += [
                translation.VERSION,
                proper_names.VERSION if self.keep_names else "",
                translators.load(self.translate).fingerprint,
            ]
        if self.keep_names or self.clean == "2021":
            parts += [spelling.VERSION, _version("wordfreq", "clean"), _version("pyspellchecker", "clean")]
        if self.clean:
            parts += [cleaning.VERSION, _version("ekphrasis", "ekphrasis") if self.clean == "ekphrasis" else ""]
        return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:16]

    def __call__(self, article: Article) -> str:
        """The prepared text of one article."""
        return self.prepare([article]).texts[0]

    def prepare(
        self,
        articles: Sequence[Article],
        *,
        keep_going: bool = False,
        progress: Progress = silent,
    ) -> Prepared:
        """The prepared texts of `articles`, in their order; one call with many is much faster than many calls.

        Args:
            articles: n articles.
            keep_going: leave originals where the translator fails, with a note, instead of raising.
            progress: called with ("sentences", sentences translated, sentences to translate).

        Raises:
            MissingExtra: a step's library is not installed.
            TranslationError: the translator cannot be used or failed; what it translated is kept on disk.
        """
        return list(self.stages(articles, keep_going=keep_going, progress=progress))[-1][1]

    def stages(
        self,
        articles: Sequence[Article],
        *,
        keep_going: bool = False,
        progress: Progress = silent,
    ) -> Iterator[tuple[str, Prepared]]:
        """The name of every step that is set, and the articles after it; the last is what `prepare` returns."""
        now = Prepared(
            tuple(join_fields(article, self.fields) for article in articles),
            tuple(article.language for article in articles),
        )
        yield "fields", now
        if self.detect:
            now = self._detect(articles, now)
            yield "detect", now
        if self.translate:
            now = self._translate(articles, now, keep_going, progress)
            yield "translate", now
        if self.clean:
            step = cleaning.clean if self.clean == "2021" else cleaning.clean_with_ekphrasis
            texts = zip(now.texts, now.languages, strict=True)
            now = replace(now, texts=tuple(step(text, language or "en") for text, language in texts))
            yield "clean", now
        if self.max_words:
            now = replace(now, texts=tuple(" ".join(text.split()[: self.max_words]) for text in now.texts))
            yield "max_words", now

    def _detect(self, articles: Sequence[Article], now: Prepared) -> Prepared:
        """By the fields that are read; where those are too short, by all prose of the article."""
        found = list(language_id.detect(now.texts, self.detect, threshold=self.threshold))
        short = [i for i, one in enumerate(found) if one.language == UNKNOWN]
        longer = [join_fields(articles[i], ("title", "lead", "text")) for i in short]
        for i, one in zip(short, language_id.detect(longer, self.detect, threshold=self.threshold), strict=True):
            found[i] = max(found[i], one, key=lambda detected: detected.confidence)
        codes = tuple(
            a.language or UNKNOWN if one.language == UNKNOWN else one.language
            for a, one in zip(articles, found, strict=True)
        )
        notes = tuple(
            _note("text-language-unknown", article, "language unknown", f"at best {one.best} with {one.confidence:.2f}")
            for article, code, one in zip(articles, codes, found, strict=True)
            if code == UNKNOWN
        )
        return replace(
            now, languages=codes, notes=now.notes + notes, confidences=tuple(one.confidence for one in found)
        )

    def _translate(self, articles: Sequence[Article], now: Prepared, keep_going: bool, progress: Progress) -> Prepared:
        from photodesk.text import translation

        translator = translators.load(self.translate)
        texts, codes, notes = list(now.texts), list(now.languages), list(now.notes)
        for code in dict.fromkeys(now.languages):
            rows = [i for i, one in enumerate(now.languages) if one == code]
            if code in (translator.target, UNKNOWN):
                continue
            if code and translator.source not in (code, ""):
                kind = f"not translated, because it is in {code} and {self.translate} reads {translator.source}"
                notes += [_note("text-language-other", articles[i], kind, "") for i in rows]
                continue
            originals = [translation.enough(texts[i], self.max_words) for i in rows]
            done = translation.translate(
                originals, translator, source=code, keep_names=self.keep_names, keep_going=keep_going, progress=progress
            )
            for i, text, failure, changes in zip(rows, done.texts, done.failures, done.changes, strict=True):
                if failure:
                    advice = "run it again; what was translated is kept"
                    notes.append(_note("text-not-translated", articles[i], "not translated", failure, advice))
                else:
                    texts[i], codes[i] = text, translator.target
                if changes:
                    what = ", ".join(f"{was} for {new}" for new, was in changes)
                    notes.append(_note("text-names-restored", articles[i], "names put back", what))
        return replace(now, texts=tuple(texts), languages=tuple(codes), notes=tuple(notes))


def parse(text: str) -> Preparation:
    """Read a Preparation as `str` prints it; the name and parentheses around the `key=value` pairs are optional.

    Raises:
        UsageError: an unknown key, a duplicated key, or an invalid value.
    """
    named = _NAMED.fullmatch(text)
    known = [field.name for field in dataclass_fields(Preparation)]
    values: dict[str, Any] = {}
    for pair in filter(str.strip, _COMMA.split(named[1] if named else text)):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise UsageError(f"{pair.strip()!r} in {text!r} is not key=value; keys: {', '.join(known)}")
        if key not in known:
            raise UsageError(f"a preparation has no {key!r}{did_you_mean(key, known)}; keys: {', '.join(known)}")
        if key in values:
            raise UsageError(f"{key!r} is duplicated in {text!r}")
        values[key] = _read(key, value)
    return Preparation(**values)


def _note(code: str, article: Article, kind: str, what: str, advice: str = "") -> Fault:
    what = f"{kind}: article {article.id!r}{what and ', '}{what}"
    return Fault(code, article.where or "articles", what, "kept", advice)


def _print(value: object) -> str:
    if isinstance(value, tuple):
        return "+".join(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _read(key: str, value: str) -> Any:
    if key in ("fields", "detect"):
        return () if value == "none" else tuple(part.strip() for part in value.split("+"))
    if key in ("translate", "clean"):
        return "" if value == "none" else value
    if key == "keep_names":
        if value not in ("yes", "no"):
            raise UsageError(f"keep_names={value!r}: expected yes or no")
        return value == "yes"
    try:
        return float(value) if key == "threshold" else int(value)
    except ValueError:
        raise UsageError(f"{key}={value!r} is not a {'' if key == 'threshold' else 'whole '}number") from None


def _version(package: str, extra: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        raise MissingExtra(
            f'this needs {package}, which is not installed; run: pip install "photodesk[{extra}]"'
        ) from None
