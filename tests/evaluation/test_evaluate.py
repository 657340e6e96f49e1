import csv
import io
import os
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from photodesk.data import editions
from photodesk.errors import DataError, UsageError
from photodesk.evaluation import run_files
from photodesk.evaluation.evaluate import digits, evaluate
from photodesk.evaluation.metrics import parse, parse_all
from photodesk.types import Hit, Pair, Run


def hits(*photos):
    return tuple(Hit(photo, -float(rank)) for rank, photo in enumerate(photos, 1))


# --- the official evaluator, transcribed from its description: two TAB files in, printed lines out
# -------------------------------


def official(truth: str, run: str) -> dict[str, str]:
    """The organisers' procedure, step by step, on texts; positions are kept by article as their map does."""

    def records(text):
        return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter="\t") if row]

    def integer(text):
        return text.lstrip("+-").isdecimal() and len(text) - len(text.lstrip("+-")) <= 1

    picture_of, pictures = {}, set()
    for row in records(truth):
        if integer(row[0]):
            picture_of[row[0]] = row[1]
            pictures.add(row[1])
    position_of: dict[str, int] = {}
    for row in records(run):
        if not integer(row[0]):
            continue
        article = row[0][6:10] + row[0][1:6] if len(row[0]) == 10 else row[0]
        for i in range(1, 101):
            if i >= len(row) or article not in picture_of:
                break  # there the original stops with an exception
            if row[i].strip() == picture_of[article]:
                position_of[article] = i
                break
    printed = {"MRR@100": sum(1 / i for i in position_of.values()) / len(pictures)}
    for k in (1, 5, 10, 50, 100):
        printed[f"R@{k}"] = sum(i <= k for i in position_of.values()) / len(pictures)
    return {
        name: str(Decimal(repr(value)).quantize(Decimal("0.00001"), "ROUND_HALF_UP")) for name, value in printed.items()
    }


@st.composite
def official_files(draw):
    n = draw(st.integers(1, 12))
    true_ids = [str(523_900_000 + 7 * i) for i in range(n)]
    gallery = [str(i) for i in range(n + 115)]
    truth = dict(zip(true_ids, draw(st.permutations(gallery))[:n], strict=True))
    spell = draw(st.sampled_from([editions.scramble, str]))
    rows = ["header\t1\t2"]
    for article in draw(st.lists(st.sampled_from([*true_ids, "999999999"]), min_size=1, max_size=16)):
        start, length = draw(st.integers(0, n + 20)), draw(st.sampled_from([0, 3, 99, 100, 101, 110]))
        ranking = [*gallery[start:], *gallery[:start]][:length]
        if draw(st.booleans()) and article in truth and ranking:
            ranking[draw(st.integers(0, len(ranking) - 1))] = f" {truth[article]}"
        rows.append("\t".join([spell(article), *ranking]))
        if draw(st.integers(0, 5)) == 0:
            rows.append(draw(st.sampled_from(["", "# a remark\t5", "n/a"])))
    header = "article\tiid\n"
    return truth, header + "".join(f"{a}\t{p}\n" for a, p in truth.items()), "\r\n".join(rows) + "\r\n"


@given(files=official_files())
def test_equals_the_official_evaluator_to_the_last_digit(tmp_path_factory, files):
    truth, truth_text, run_text = files
    path = tmp_path_factory.mktemp("official") / "run.tsv"
    path.write_text(run_text, newline="")
    report = evaluate(path, [Pair(a, p) for a, p in truth.items()], scrambled=True)
    assert {name: digits(mean) for name, mean in report.means.items()} == official(truth_text, run_text)
    assert evaluate(path, [Pair(a, p) for a, p in truth.items()], scrambled=True, official=True).means == report.means


@given(
    st.lists(st.tuples(st.sampled_from("12345"), st.sampled_from("abc")), min_size=1, max_size=8),
    st.permutations("abc"),
)
def test_official_counting_where_the_truth_is_not_one_to_one(tmp_path_factory, pairs, ranking):
    path = tmp_path_factory.mktemp("official") / "run.tsv"
    path.write_text("h\n" + "".join("\t".join([a, *ranking]) + "\n" for a in "1245"))
    report = evaluate(path, [Pair(*pair) for pair in pairs], official=True)
    truth = "".join(f"{a}\t{p}\n" for a, p in pairs)
    assert {name: digits(mean) for name, mean in report.means.items()} == official(truth, path.read_text())


def test_a_truth_that_is_not_one_to_one_is_said():
    pairs = [Pair("1", "a"), Pair("2", "a"), Pair("3", "b")]
    run = Run({a: hits("a") for a in "123"})
    assert (evaluate(run, pairs).means["R@1"], evaluate(run, pairs, official=True).means["R@1"]) == (2 / 3, 1.0)
    assert evaluate(run, pairs).notes == (
        "divided by the 3 articles of the truth; the official evaluator divides by the 2 pictures of the truth "
        "(--official)",
    )
    assert evaluate(run, pairs, official=True).notes == (
        "divided by the 2 pictures of the truth, as the official evaluator does, not by the 3 articles of the truth",
    )


def test_halves_are_rounded_up_as_java_does():
    assert digits(1 / 64) == "0.01563"  # 0.015625: C and Python print 0.01562
    assert digits(1.005, 2) == "1.01"
    assert digits(0.29434, decimal_comma=True) == "0,29434"
    assert digits(-0.5, 0) == "-1"


# --- by hand
# --------------------------------------------------------------------------------------------------------------------


def test_by_hand():
    pairs = [Pair("1", "a"), Pair("2", "b"), Pair("3", "c"), Pair("4", "d")]
    run = Run(
        {"1": hits("a", "b"), "2": hits("a", "b"), "3": hits("a", "b"), "7": hits("a")}, name="mine", transductive="x"
    )
    report = evaluate(run, pairs, ["R@1", parse("R@2"), "MRR@2", "MRR@1", "R@1"])
    assert report.measures == parse_all(["R@1", "R@2", "MRR@2", "MRR@1"])
    assert report.interval("R@2") == report.interval(parse("R@2"))
    assert report.means == {"R@1": 0.25, "R@2": 0.5, "MRR@2": 0.375, "MRR@1": 0.25}
    assert report.articles == ("1", "2", "3", "4")
    assert report.ranks.tolist() == [1, 2, 0, 0]
    assert report.values(parse("MRR@2")).tolist() == [1, 0.5, 0, 0]
    assert (report.denominator, report.missing, report.title) == (4, {"4"}, "mine (transductive: x)")
    assert report.notes == (
        "articles missing from the run count 0: 1 of 4, such as '4'",
        "articles that the truth does not have count nothing: 1, such as '7'",
    )
    with pytest.raises(UsageError, match="R@3 needs ranks up to 3; this report was made for at most 2"):
        report.values(parse("R@3"))


UNKNOWN = "photos that {whose} does not have are never right: {count}, such as {which}"


@pytest.mark.parametrize(
    ("named", "gallery", "note"),
    [
        (("b", "a"), (), ""),
        (("a", "x"), (), ""),  # x may be of the gallery, which is not known
        (("a", "x"), ("a", "b", "x"), ""),
        (("x", "y"), (), UNKNOWN.format(whose="the truth", count="2 of 2", which="'x', 'y'")),
        (("a", "x"), ("a", "b"), UNKNOWN.format(whose="the data set", count="1 of 2", which="'x'")),
        (
            ("a.jpg", "b"),
            (),
            UNKNOWN.format(whose="the truth", count="1 of 2", which="'a.jpg'") + "; did you mean 'a' by 'a.jpg'?",
        ),
        (
            ("A", "B"),
            ("a", "b", "c"),
            UNKNOWN.format(whose="the data set", count="2 of 2", which="'A', 'B'") + "; did you mean 'a' by 'A'?",
        ),
    ],
)
def test_photos_that_nobody_knows_are_said(named, gallery, note):
    report = evaluate(Run({"1": hits(*named), "2": hits(*named)}), [Pair("1", "a"), Pair("2", "b")], photos=gallery)
    assert report.notes == ((note,) if note else ())


def test_several_right_photos_succeed_by_the_best_placed():
    pairs = [Pair("1", "c"), Pair("2", "x"), Pair("1", "b"), Pair("1", "z")]
    report = evaluate(Run({"1": hits("a", "b", "c"), "2": hits("a")}), pairs)
    assert (report.articles, report.ranks.tolist(), report.denominator) == (("1", "2"), [2, 0], 2)
    assert report.means["R@5"] == 0.5
    assert report.means["MRR@100"] == 0.25


def test_subsets():
    pairs = [Pair(str(i), "a") for i in range(5)]
    run = Run({"0": hits("a"), "1": hits("b", "a"), "3": hits("a")})
    report = evaluate(
        run, pairs, parse_all(["MRR@10"]), subsets={"0": "RSS", "1": "TW", "2": "TW", "3": "RSS", "9": "RT"}
    )
    assert {name: (part.means, part.articles, part.missing) for name, part in report.subsets.items()} == {
        "RSS": ({"MRR@10": 1.0}, ("0", "3"), set()),
        "TW": ({"MRR@10": 0.25}, ("1", "2"), {"2"}),
    }
    text = report.table(per_subset=True).text()
    assert [line.split()[:3] for line in text.splitlines()[2:]] == [
        ["all", "MRR@10", "0.50000"],
        ["RSS", "MRR@10", "1.00000"],
        ["TW", "MRR@10", "0.25000"],
    ]


def test_a_later_row_counts_where_it_finds_the_picture(tmp_path):
    (tmp_path / "r.tsv").write_text("h\n1\ta\tb\n2\tx\tc\n1\tx\ty\n2\ty\ty\tc\n3\tz\n3\ta\n")
    report = evaluate(tmp_path / "r.tsv", [Pair("1", "b"), Pair("2", "c"), Pair("3", "a")])
    assert report.ranks.tolist() == [2, 3, 1]
    assert report.notes == (
        "of articles that come again the later row counts if it finds the picture: 3, such as '1', '2', '3'",
    )


@pytest.mark.parametrize("of_truth", [str, editions.scramble])
def test_2021_ids_in_either_spelling(of_truth):
    photo_of = {"526000026": "a", "523949072": "b"}
    pairs = [Pair(of_truth(article), photo) for article, photo in photo_of.items()]
    for of_run, name in ((str, "true"), (editions.scramble, "scrambled")):
        run = Run({of_run(article): hits(photo) for article, photo in photo_of.items()})
        report = evaluate(run, pairs, scrambled=True)
        assert report.means["R@1"] == 1
        assert report.notes == (f"article ids recognised as the {name} ones of 2021 (2 of 2)",)
        assert evaluate(run, pairs).means["R@1"] == (of_run is of_truth)


def test_nothing_to_measure_is_said():
    with pytest.raises(DataError, match=r"there is no truth to evaluate against.*--truth"):
        evaluate(Run({}), [])
    with pytest.raises(UsageError, match="no measure given"):
        evaluate(Run({}), [Pair("1", "a")], [])


def test_a_run_file_is_measured_as_the_run_in_memory(tmp_path):
    rng = np.random.default_rng(3)
    names = [f"p{i}" for i in range(200)]
    run = Run(
        {str(a): tuple(Hit(names[p], -float(i)) for i, p in enumerate(rng.permutation(200)[:100])) for a in range(50)},
        name="run",
    )
    pairs = [Pair(str(a), names[rng.integers(200)]) for a in range(55)]
    in_memory = evaluate(run, pairs)
    assert 0 < in_memory.means["R@100"] < 1
    for suffix in ("tsv", "trec"):
        run_files.write(run, tmp_path / f"run.{suffix}")
        assert evaluate(tmp_path / f"run.{suffix}", pairs).as_json() == in_memory.as_json()


# --- against others, and properties
# ---------------------------------------------------------------------------------------------


@st.composite
def judged(draw):
    gallery = "abcdefghij"
    rankings = {a: draw(st.permutations(gallery))[: draw(st.integers(1, 10))] for a in "123456"}
    right = {a: draw(st.sets(st.sampled_from(gallery + "xyz"), min_size=1, max_size=3)) for a in "1234"}
    return rankings, right


@given(judged())
def test_success_and_reciprocal_rank_agree_with_pytrec_eval(case):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    rankings, right = case
    report = evaluate(
        Run({a: hits(*r) for a, r in rankings.items()}), [Pair(a, p) for a in right for p in sorted(right[a])]
    )
    evaluator = pytrec_eval.RelevanceEvaluator(
        {a: dict.fromkeys(p, 1) for a, p in right.items()}, {"success.1,5,10", "recip_rank"}
    )
    theirs = evaluator.evaluate({a: {p: -float(i) for i, p in enumerate(r)} for a, r in rankings.items()})
    for i, article in enumerate(report.articles):
        for name, their_name in {
            "R@1": "success_1",
            "R@5": "success_5",
            "R@10": "success_10",
            "MRR@100": "recip_rank",
        }.items():
            assert report.values(parse(name))[i] == pytest.approx(theirs[article][their_name])


@given(judged(), st.integers(1, 10))
def test_measures_are_bounded_and_grow_with_k(case, k):
    rankings, right = case
    run, pairs = Run({a: hits(*r) for a, r in rankings.items()}), [Pair(a, p) for a in right for p in sorted(right[a])]
    means = evaluate(run, pairs, parse_all([f"R@{k}", f"R@{k + 1}", f"MRR@{k}", f"MRR@{k + 1}"])).means
    assert 0 <= means[f"MRR@{k}"] <= means[f"R@{k}"] <= means[f"R@{k + 1}"] <= 1
    assert means[f"MRR@{k}"] <= means[f"MRR@{k + 1}"]


def test_the_interval_is_that_of_resampled_articles():
    rng = np.random.default_rng(0)
    n = 300
    places = rng.choice([0, 1, 2, 5, 40], n)
    names = [f"p{i}" for i in range(60)]
    run = Run({str(i): hits(*names[: place - 1], "right") if place else hits(*names) for i, place in enumerate(places)})
    report = evaluate(run, [Pair(str(i), "right") for i in range(n)])
    for measure in report.measures:
        values = report.values(measure)
        naive = values[rng.integers(0, n, (20_000, n))].mean(axis=1)
        low, high = report.interval(measure, samples=20_000)
        assert (low, high) == pytest.approx(np.quantile(naive, [0.025, 0.975]), abs=0.004)
        assert low <= report.mean(measure) <= high
    assert list(report) == list(report.rows(seed=0))
    assert list(report.rows(seed=1)) == list(report.rows(seed=1)) != list(report)


def test_the_interval_of_a_perfect_and_of_a_useless_run_is_a_point():
    pairs = [Pair(str(i), "a") for i in range(9)]
    for photo, value in (("a", 1.0), ("b", 0.0)):
        report = evaluate(Run({str(i): hits(photo) for i in range(9)}), pairs)
        assert [row[1:] for row in report] == [(value, value, value)] * 6


def test_a_report_is_frozen_and_prints_its_figures():
    report = evaluate(Run({"1": hits("a")}), [Pair("1", "a")], parse_all(["R@1"]))
    with pytest.raises(ValueError, match="read-only"):
        report.ranks[0] = 5
    with pytest.raises(AttributeError):
        report.name = "other"
    with pytest.raises(TypeError):
        report.subsets["x"] = report
    assert str(report).splitlines() == [
        "run",
        "measure     mean  95 % from       to  articles",
        "R@1      1.00000    1.00000  1.00000         1",
    ]


def test_the_real_truth_of_2021_as_the_official_evaluator_counts_it(tmp_path):
    if "PHOTODESK_DATA" not in os.environ:
        pytest.skip("set PHOTODESK_DATA to the folder with newsimages2021")
    rows = [
        line.split("\t")
        for line in (Path(os.environ["PHOTODESK_DATA"]) / "newsimages2021" / "content2019-04-gt.tsv")
        .read_text("utf-8")
        .splitlines()[1:]
    ]
    rng = np.random.default_rng(2021)
    gallery = [row[4] for row in rows]
    lines = ["header"]
    for row in rows[:1900]:
        ranking = [gallery[i] for i in rng.permutation(len(gallery))[:100]]
        place = int(rng.pareto(0.3) * 2)
        lines.append(
            "\t".join(
                [editions.scramble(row[0]), *(photo if i != place else row[4] for i, photo in enumerate(ranking))]
            )
        )
    (tmp_path / "run.tsv").write_text("\n".join(lines) + "\n")
    report = evaluate(tmp_path / "run.tsv", [Pair(row[0], row[4]) for row in rows], scrambled=True)
    truth = "".join(f"{row[0]}\t{row[4]}\n" for row in rows)
    assert len(report.articles) == 1915
    assert {name: digits(mean) for name, mean in report.means.items()} == official(truth, "\n".join(lines))
