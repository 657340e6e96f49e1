import contextlib
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from photodesk.data import editions
from photodesk.errors import RunError, UsageError
from photodesk.evaluation import run_files
from photodesk.types import Hit, Run

# ids that every format holds, and lines that a TAB file holds; both with quotes, umlauts and what looks like structure
words = st.text(
    st.characters(exclude_categories=["Cs", "Zs", "Zl", "Zp", "Cc"], exclude_characters="\ufeff"),
    min_size=1,
    max_size=12,
)
lines = st.tuples(words, st.text(st.sampled_from(' "x'), max_size=3), words).map("".join)
scores = st.floats(allow_nan=False, allow_infinity=False)


def tab_runs():
    rankings = st.lists(lines, max_size=6, unique=True).map(
        lambda ids: tuple(Hit(p, -float(r)) for r, p in enumerate(ids, 1))
    )
    return st.builds(Run, st.dictionaries(lines, rankings, max_size=5), transductive=st.just("") | lines)


def trec_runs():
    ranking = st.dictionaries(words, scores, min_size=1, max_size=6).map(
        lambda d: tuple(Hit(p, s) for p, s in sorted(d.items(), key=lambda item: -item[1]))
    )
    return st.builds(
        Run, st.dictionaries(words, ranking, min_size=1, max_size=5), name=lines, transductive=st.just("") | lines
    )


@given(run=tab_runs())
@example(run=Run({'"': (Hit('""', -1.0), Hit('"a', -2.0)), '""': (), 'a"': (), "article_id": ()}, transductive='"x"'))
def test_tab_write_then_read_is_identity(tmp_path_factory, run):
    path = tmp_path_factory.mktemp("runs") / "run.tsv"
    run_files.write(run, path)
    again = run_files.read(path)
    assert list(again.hits.items()) == list(run.hits.items())
    assert (again.name, again.transductive) == ("run", run.transductive)


@given(run=trec_runs())
def test_trec_write_then_read_is_identity(tmp_path_factory, run):
    path = tmp_path_factory.mktemp("runs") / "run.trec"
    run_files.write(run, path)
    again = run_files.read(path)
    assert list(again.hits.items()) == list(run.hits.items())
    assert (again.name, again.transductive) == (run.name, run.transductive)


@given(
    data=st.binary(max_size=200) | st.text('\t\n\r"12ab ,.', max_size=60).map(str.encode),
    suffix=st.sampled_from([".tsv", ".trec", ".run", ""]),
)
def test_any_bytes_give_a_run_or_a_run_error(tmp_path_factory, data, suffix):
    path = tmp_path_factory.mktemp("runs") / f"x{suffix}"
    path.write_bytes(data)
    for decimal_comma in (False, True):
        with contextlib.suppress(RunError):
            run = run_files.read(path, decimal_comma=decimal_comma)
            assert all(
                isinstance(hit.photo, str) and math.isfinite(hit.score) for hits in run.hits.values() for hit in hits
            )


@given(rows=st.lists(st.text("ab 01.,\t", max_size=12), max_size=6), comma=st.booleans())
def test_the_quick_trec_reader_agrees_with_the_thorough_one(tmp_path_factory, rows, comma):
    path = tmp_path_factory.mktemp("runs") / "x.trec"
    good = [f"a{i % 2} Q0 p{i} 1 {row.split()[0] if row.split() else 1} t" for i, row in enumerate(rows)]
    for content in ("\n".join(rows), "\n".join(good), "\n".join(sorted(good)) + "\n"):
        path.write_text(content)
        quick = run_files._regular_trec(path)
        if quick is not None:
            assert quick == run_files._any_trec(path, decimal_comma=False)


def test_the_official_layout_byte_for_byte(tmp_path):
    run = Run(
        {"17": (Hit("a", 0.5), Hit("b", 0.25)), "3": (Hit("c", 1.0),)}, transductive="dual_softmax(temperature=1)"
    )
    run_files.write(run, tmp_path / "run.tsv")
    head = b"article_id (transductive: dual_softmax(temperature=1))\trank1\trank2\n"
    assert (tmp_path / "run.tsv").read_bytes() == head + b"17\ta\tb\n3\tc\n"
    run_files.write(run, tmp_path / "run.trec")
    tag = b"run;transductive=dual_softmax(temperature=1)\n"
    assert (
        tmp_path / "run.trec"
    ).read_bytes() == b"17 Q0 a 1 0.5 " + tag + b"17 Q0 b 2 0.25 " + tag + b"3 Q0 c 1 1.0 " + tag


def test_float32_scores_survive_trec(tmp_path):
    rng = np.random.default_rng(0)
    values = np.sort(np.concatenate([rng.standard_normal(500), rng.standard_normal(100) * 1e-30]).astype(np.float32))[
        ::-1
    ]
    run_files.write(Run({"1": tuple(Hit(str(i), float(v)) for i, v in enumerate(values))}), tmp_path / "x.run")
    again = np.array([hit.score for hit in run_files.read(tmp_path / "x.run")["1"]], np.float32)
    assert again.tobytes() == values.tobytes()


def test_a_tab_file_of_others(tmp_path):
    path = tmp_path / "ddis.tsv"
    path.write_bytes(b'\xef\xbb\xbfheader\r\n12\t 7 \t8\t\t9\t\t\r\n\r\n# a note\t5\r\n"13"\t"4"\r\nabc\t1\r\n')
    run = run_files.read(path)
    assert {a: [hit.photo for hit in hits] for a, hits in run.hits.items()} == {"12": ["7", "8", "", "9"], "13": ["4"]}
    assert [hit.score for hit in run["12"]] == [-1, -2, -3, -4]
    assert (run.name, run.transductive) == ("ddis", "")


def test_trec_is_ordered_by_score_not_by_rank(tmp_path):
    path = tmp_path / "x.trec"
    path.write_text("1 Q0 late 1 0.1 t\n2 Q0 p 1 1 t\n\n1 Q0 tieA 2 0.5 t\n1 Q0 tieB 3 5e-1 t\n")
    assert [hit.photo for hit in run_files.read(path)["1"]] == ["tieA", "tieB", "late"]
    path.write_text("1 Q0 a 1 0,25 t\n1 Q0 b 2 0,5 t\n")
    assert [(hit.photo, hit.score) for hit in run_files.read(path, decimal_comma=True)["1"]] == [
        ("b", 0.5),
        ("a", 0.25),
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.tsv", b"", "x.tsv: the file is empty; expected a header line"),
        (
            "x.tsv",
            b"id,photo\n1,2\n",
            r"x.tsv:1: 'id,photo' is taken for the header, and no line begins with an integer",
        ),
        ("x.tsv", b"h\n1\ta\n2\t\xff\n", r"x.tsv:3: byte 0xff at position 3 is not UTF-8"),
        ("x.tsv", b"h\n1\ta\n2\tb\n1\tc\n", r"x.tsv:4: article '1' stands here and in line 2"),
        ("x.tsv", b'h\n1\t"a\n', r"x.tsv:2: '1\\t\"a' is not TAB-separated with closed quotes"),
        ("x.trec", b"1 Q0 a 1 0.5 t\n1 Q0 b 2 t\n", r"x.trec:2: '1 Q0 b 2 t' has 5 fields; TREC needs six"),
        ("x.trec", b"1 Q0 a 1 high t\n", r"x.trec:1: score 'high' is not a finite number"),
        ("x.trec", b"1 Q0 a 1 nan t\n", r"x.trec:1: score 'nan' is not a finite number"),
        (
            "x.run",
            b"1 Q0 a 1 0,5 t\n",
            r"x.run:1: score '0,5' is not a finite number; for decimal commas add --decimal-comma",
        ),
        ("x.run", b"1 Q0 a 1 2 t\n1 Q0 a 2 1 t\n", r"x.run:2: photo 'a' stands a second time for article '1'"),
        ("x.run", b"\n\n", r"x.run: no line of TREC's form"),
    ],
)
def test_errors_name_file_line_value_and_expectation(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError, match=said):
        run_files.read(tmp_path / name)


@pytest.mark.parametrize("name", ["x.tsv", "x.trec"])
def test_a_missing_file_is_a_run_error(tmp_path, name):
    with pytest.raises(RunError, match=f"cannot read run file .*{name}"):
        run_files.read(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "run", "said"),
    [
        (
            "x.tsv",
            Run({"1": (Hit("a\tb", 1),)}),
            r"'a\\tb' cannot stand in this run file: it has to be one line without TAB",
        ),
        ("x.tsv", Run({" 1": ()}), "' 1' cannot stand"),
        ("x.tsv", Run({"1": (Hit("", 1),)}), "'' cannot stand"),
        ("x.tsv", Run({"1": (Hit("\udc80", 1),)}), "cannot stand"),
        ("x.tsv", Run({}, transductive="a\nb"), "cannot stand"),
        ("x.trec", Run({"1": (Hit("a b", 1),)}), "one word without blanks; a .tsv takes more"),
        (
            "x.trec",
            Run({"1": (Hit("a", 1), Hit("b", 2))}),
            "article '1', rank 2: score 2 after 1; TREC needs finite scores",
        ),
        ("x.trec", Run({"1": (Hit("a", math.nan),)}), "article '1', rank 1: score nan"),
    ],
)
def test_what_cannot_be_read_back_is_not_written(tmp_path, name, run, said):
    (tmp_path / name).write_text("as before")
    with pytest.raises(RunError, match=said):
        run_files.write(run, tmp_path / name)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["as before"]


def test_an_unknown_suffix_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"'run.csv': name it .tsv"):
        run_files.write(Run({}), tmp_path / "run.csv")


def test_rows_of_a_run_and_of_its_files_are_the_same(tmp_path):
    run = Run({"2": (Hit("a", 2.0), Hit("b", 1.0)), "1": (Hit("b", 0.5),)})
    expected = [("2", ["a", "b"]), ("1", ["b"])]
    for suffix in ("tsv", "trec"):
        run_files.write(run, tmp_path / f"run.{suffix}")
        assert [(a, list(p)) for _, a, p in run_files.open_rows(tmp_path / f"run.{suffix}").items] == expected
    assert [(a, list(p)) for _, a, p in run_files.open_rows(run).items] == expected


def test_check_names_each_fault_and_nothing_else():
    good = Run({"1": (Hit("a", 2), Hit("b", 1)), "2": (Hit("b", 2), Hit("a", 1))})
    assert run_files.check(good, ["1", "2"], ["a", "b"]) == ()
    bad = Run({"1": (Hit("a", 2), Hit("a", 1)), "9": (Hit("b", 2), Hit("z", 1)), "2": (Hit("a", 1),)}, name="mine")
    assert [(fault.where, fault.what) for fault in run_files.check(bad, ["1", "2", "3"], ["a", "b"])] == [
        ("mine", "an article that the data set does not have: 9"),
        ("mine", "an article is missing: 3"),
        ("mine", "a photo more than once: a for article 1"),
        ("mine", "a photo that the data set does not have: z for article 9"),
        ("mine", "not 2 photos: 1 for article 2"),
    ]
    assert run_files.check(good, ["1", "2"], [], depth=2) == ()
    assert all(fault.advice for fault in run_files.check(bad, ["1", "2", "3"], ["a", "b"]))


@pytest.mark.parametrize("unknown", ["a.jpg", "A", "/photos/a.png"])
def test_check_says_what_an_unknown_photo_may_be(unknown):
    run = Run({"1": (Hit(unknown, 2), Hit("b", 1))})
    (fault,) = run_files.check(run, ["1"], ["a", "b"])
    assert fault.what == f"a photo that the data set does not have: {unknown} for article 1, did you mean a?"


def test_ids_are_refused_before_the_work(tmp_path):
    for name, ids in (("a.trec", ["mit leer"]), ("a.tsv", ["two\nlines"]), ("a.tsv", [" a"]), ("a.run", ["\udce4"])):
        with pytest.raises(RunError, match="cannot stand in this run file"):
            run_files.refuse(tmp_path / name, ["good", *ids])
    run_files.refuse(tmp_path / "a.tsv", ["mit leer", "K\u00f6ln"])
    run_files.refuse(tmp_path / "a.trec", ["K\u00f6ln"])


def test_ids_of_2021_are_respelt_as_the_truth_spells_them():
    hits = (run_files.Hit("p", 1.0),)
    true, hidden = "201943217", editions.scramble("201943217")
    assert set(run_files.respelt(run_files.Run({hidden: hits}), {true})) == {true}
    assert set(run_files.respelt(run_files.Run({true: hits}), {hidden})) == {hidden}
    assert set(run_files.respelt(run_files.Run({true: hits, "other": hits}), {"7"})) == {true, "other"}
