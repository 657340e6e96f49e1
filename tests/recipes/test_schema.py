"""Recipes: the papers' numbers, typed here once more, and a reader that lets nothing pass."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photodesk.encoders import registry
from photodesk.errors import UsageError
from photodesk.recipes import schema
from photodesk.recipes.schema import Recipe
from photodesk.text.preparation import Preparation

ROOT = Path(__file__).parents[2]

RUNS_2021 = """
1 23576 30601 37285 54674 61984
2 25521 34987 42611 60522 67258
3 27323 36971 44804 63708 71018
4 27446 36868 44752 64961 71906
5 29434 38172 48460 68825 77441
"""  # MRR, R@5, R@10, R@50, R@100

OFFICIAL_2022 = """
RSS 1 61000 68267 82067 86533 49013
RSS 2 62133 69333 82667 87400 49800
RSS 3 59933 68267 80800 86067 47901
RSS 4 60067 68267 80800 85667 47664
RSS 5 59267 68000 81267 85400 46889
RT 1 42733 52267 71800 80667 30875
RT 2 46200 54667 75533 83400 33370
RT 3 43933 53733 74667 82533 31131
RT 4 43933 53733 75200 82333 31039
RT 5 37267 46200 65667 72667 27638
TW 1 65667 72867 86000 91200 54209
TW 2 66267 73200 86333 91133 54645
TW 3 66133 74133 86600 90933 53554
TW 4 65333 74133 86467 91000 53268
TW 5 65733 74600 86333 91267 53920
"""  # R@5, R@10, R@50, R@100, MRR

INTERNAL_2022 = """
RSS 1 8125 8375 9250 10000 7590
RSS 2 8125 8375 9500 10000 7730
RSS 3 8750 9250 9875 10000 8014
RSS 4 8750 9375 9875 10000 8147
RSS 5 8125 8875 9875 10000 7672
RT 1 6234 7247 8649 9377 4800
RT 2 6390 7559 8857 9325 5040
RT 3 6546 7377 9039 9455 5065
RT 4 6442 7507 9039 9481 5045
RT 5 6364 7325 8987 9507 4885
TW 1 6826 7630 8957 9444 5540
TW 2 6882 7664 9070 9501 5610
TW 3 7030 7721 9036 9431 5695
TW 4 7075 7721 9116 9422 5748
TW 5 6916 7710 9048 9410 5678
"""

ALL = {name: schema.read(name) for name in schema.names()}


def table():
    """Recipe → (table, row, measure → number), from the text above."""
    found = {}
    for line in RUNS_2021.split("\n")[1:-1]:
        run, *figures = line.split()
        keys = ("MRR@100", "R@5", "R@10", "R@50", "R@100")
        found[f"2021-run{run}"] = ("1", f"Run0{run}", dict(zip(keys, (int(f) / 1e5 for f in figures), strict=True)))
    keys = ("R@5", "R@10", "R@50", "R@100", "MRR@100")
    for block, name, suffix, unit in ((OFFICIAL_2022, "1.A", "", 1e5), (INTERNAL_2022, "1.B", "-internal", 1e4)):
        for line in block.split("\n")[1:-1]:
            part, run, *figures = line.split()
            numbers = dict(zip(keys, (int(f) / unit for f in figures), strict=True))
            found[f"2022-{part.lower()}-run{run}{suffix}"] = (name, f"{part}, Run #{run}", numbers)
    for name, row, figures in (
        ("2023-gdelt-p1", "GDELT-P1, run 1", (0.538, 0.691, 0.943)),
        ("2023-gdelt-p2", "GDELT-P2, run 1", (0.488, 0.629, 0.915)),
        ("2023-rt", "RT, run 1", (0.209, 0.281, 0.635)),
    ):
        found[name] = ("official results", row, dict(zip(("MRR@100", "R@5", "R@100"), figures, strict=True)))
    return found


def test_there_is_a_recipe_for_every_row_with_its_numbers():
    rows = table()
    assert set(ALL) == {*rows, "own-best"}
    for name, (where, row, numbers) in rows.items():
        claim = ALL[name].claim
        assert (claim.table, claim.row) == (where, row), name
        assert dict(claim.numbers) == pytest.approx(numbers, abs=5e-6), name


@pytest.mark.parametrize(
    ("prefix", "suffix", "pairs", "rounding"),
    [
        ("2021", "", 1915, 1.01e-5),
        ("2022", "run", 1500, 5.1e-6),
        ("2022-rss", "internal", 80, 5.1e-5),
        ("2022-rt", "internal", 385, 1.01e-4),
    ],
)
def test_every_claimed_recall_is_a_whole_number_of_articles(prefix, suffix, pairs, rounding):
    """The digits check themselves: R@k over n articles is k/n. The sizes 80 and 385 follow from the papers' figures
    alone.

    2021 prints 0,368677 for 706 of 1,915 articles, which are 0.368668; the RT figures of 1.B are cut, not rounded.
    """
    chosen = [
        one
        for name, one in ALL.items()
        if name.startswith(prefix) and (name.endswith("internal") == (suffix == "internal"))
    ]
    assert chosen
    for one in chosen:
        assert suffix == "internal" or one.claim.pairs == pairs
        for measure, value in one.claim.numbers.items():
            if measure.startswith("R@"):
                assert abs(round(value * pairs) / pairs - value) <= rounding, (one.name, measure, value)


def test_the_recipes_of_2021_differ_in_their_words_only():
    words = [ALL[f"2021-run{run}"].texts.words for run in range(1, 6)]
    assert words == [(10,), (20,), (30,), (40,), (10, 20, 30, 40)]
    assert ALL["2021-run5"].texts.weights == (0.25,) * 4
    for run in range(1, 6):
        one = ALL[f"2021-run{run}"]
        for limit, preparation in zip(one.texts.words, one.texts.preparations, strict=True):
            marian = "marian:Helsinki-NLP/opus-mt-de-en"
            assert preparation == Preparation(
                ("title", "text"), ("de", "en"), translate=marian, clean="2021", max_words=limit
            )
        assert one.network is None
        assert not one.transductive


@pytest.mark.parametrize("part", ["rss", "rt", "tw"])
@pytest.mark.parametrize("suffix", ["", "-internal"])
def test_the_runs_of_2022_are_the_five_of_the_paper(part, suffix):
    runs = [ALL[f"2022-{part}-run{run}{suffix}"] for run in range(1, 6)]
    assert [one.transductive for one in runs] == [False, True, False, True, True]
    assert all(str(one.revision.revision) == "dual_softmax(temperature=1)" for one in runs if one.revision)
    assert [one.network is not None for one in runs] == [False, False, True, True, True]
    assert [one.texts.fields for one in runs] == [("title",)] * 4 + [("text",)]
    for one in runs:
        assert one.encoders.names == ("openclip:ViT-H-14/laion2b_s32b_b79k",)
        assert one.data.test == ("random:0.2" if suffix else "all")
        assert one.data.subset == f"{part.upper()} {'train' if suffix else 'test'}"
        if one.network:
            assert (one.network.preset, one.network.pretrain, one.network.split) == (
                "paper2022",
                "NYTimes800k",
                "random:0.2",
            )
            assert one.network.train == ("RSS train", "RT train", "TW train")


def test_our_own_best_sees_no_other_test_query_and_needs_nothing():
    own = ALL["own-best"]
    assert not own.transductive
    assert own.encoders.names == ("builtin",)
    assert own.data.test == "grouped:2000"


def test_recipes_lie_where_a_wheel_takes_them_along():
    built = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert built["packages"] == ["src/photodesk"]
    assert "exclude" not in built
    assert {path.stem for path in (ROOT / "src/photodesk/recipes/tables").glob("*.toml")} == set(ALL)


def test_every_recipe_says_what_it_costs_and_how_to_get_its_data():
    for one in ALL.values():
        assert one.cost.machine
        assert one.cost.minutes > 0
        assert len(one.data.how) > 20
        assert all(line.endswith(".") for line in one.assumes)
        for name in one.encoders.names:
            assert name.partition(":")[0] in registry.FAMILIES


PLAIN = """
about = "A plain one."

[claim]
paper = "P"
table = "1"
row = "2"
numbers = { "R@5" = 0.2, "R@10" = 0.3, "MRR@100" = 0.25 }

[data]
edition = "NewsImages 2025"
how = "ask"

[encoders]
names = ["builtin"]

[cost]
weights_gb = 0
minutes = 1
machine = "any"
"""


def test_what_is_left_out_takes_its_default():
    one = schema.parse(PLAIN, "plain")
    assert isinstance(one, Recipe)
    assert one.texts.preparations == (Preparation(),)
    assert one.network is None
    assert one.revision is None
    assert one.data.test == "all"


REVISION = '\n[revision]\nmethod = "dual_softmax"\nbank = "batch"\n'
NETWORK = '\n[network]\npreset = "default"\n'
GROUPED = 'how = "ask"\ntest = "grouped:100"'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("about =", "abuot =", r"no key 'abuot' \(did you mean 'about'\?\)"),
        ("[cost]", "[cots]", r"no key 'cots' \(did you mean 'cost'\?\)"),
        ("minutes", "minuets", r"x\.toml: \[cost\] has no key 'minuets' \(did you mean 'minutes'\?\)"),
        ("[cost]", "[texts]\nmax_words = 10\n[cost]", r"\[texts\] has no key 'max_words' \(did you mean 'words'\?\)"),
        ("[cost]", '[revison]\nmethod = "nnn"\n[cost]', r"'revison' \(did you mean 'revision'\?\)"),
        ('how = "ask"', "", r"\[data\] lacks 'how'"),
        ("minutes = 1", 'minutes = "1"', r"\[cost\] minutes = '1': expected a number"),
        ("minutes = 1", "minutes = true", "minutes = True: expected a number"),
        ("minutes = 1", "minutes = nan", "expected a finite number"),
        ('names = ["builtin"]', 'names = "builtin"', r"expected a list, such as \['builtin'\]"),
        ('names = ["builtin"]', "names = [1]", "names = 1: expected a text"),
        ('names = ["builtin"]', "names = []", "one or more encoders"),
        ('names = ["builtin"]', 'names = ["opneclip:ViT-B-32/openai"]', r"did you mean 'openclip'\?"),
        ('names = ["builtin"]', 'names = ["builtin"]\nweights = [1]', "weights are of no use"),
        ('names = '
         '["builtin"]', 'names = ["builtin"]\nnormalise = "z"', "normalise and learn are of no use with one encoder"),
        ('names = '
         '["builtin"]', 'names = ["builtin"]\nlearn = true', "normalise and learn are of no use with one encoder"),
        ('names = '
         '["builtin"]', 'names = ["builtin", "openclip:ViT-B-32/openai"]\nlearn = true\nweights = [1, '
                        '2]', "finds the weights"),
        ('names = '
         '["builtin"]', 'names = ["builtin", "openclip:ViT-B-32/openai"]\nlearn = '
                        'true', "needs pairs that are not measured"),
        ('names = ["builtin"]', 'names = ["builtin"]\nnormalise = "zz"', r"did you mean 'z'\?"),
        ('names = '
         '["builtin"]', 'names = ["builtin", "openclip:ViT-B-32/openai"]\nweights = '
                        '[1]', "2 names need as many weights"),
        ('"R@5" = 0.2', '"R5" = 0.2', "no measure 'R5'; known: R@k"),
        ('"R@5" = 0.2', '"R@5" = 1.2', "outside 0 … 1"),
        ('"R@5" = 0.2', '"R@5" = 0.4', "R@k falls with growing k"),
        ('numbers = { "R@5" = 0.2, "R@10" = 0.3, "MRR@100" = 0.25 }', "numbers = {}", "numbers is empty"),
        ('how = "ask"', 'how = "ask"\ntest = "20 %"', 'test = \'20 %\': expected all or random:0.2'),
        ('how = "ask"', 'how = "ask"\ntest = "random:1.5"', "a share lies between 0 and 1"),
        ('how = "ask"', 'how = "ask"\nseed = 3', "seed is of no use"),
        ("[cost]", "[texts]\nwords = [0]\n[cost]", "limits are from 1 on"),
        ("[cost]", "[texts]\nwords = [10]\nweights = [1]\n[cost]", "weights are of no use with fewer than two words"),
        ("[cost]", '[texts]\nfields = ["titel"]\n[cost]', r"did you mean 'title'\?"),
        ("[cost]", '[texts]\ntranslate = "marian:a/b-de-en"\n[cost]', "translate needs detect"),
        ("[cost]", '[texts]\ndetect = ["de", "en"]\n[cost]', "detect is of no use without translate"),
        ("[cost]", '[texts]\nclean = "2012"\n[cost]', r"did you mean '2021'\?"),
        ("[cost]", REVISION.replace("dual_softmax", "daul_softmax") + "[cost]", r"did you mean 'dual_softmax'\?"),
        ("[cost]", REVISION.replace("dual_softmax", "cosine") + "[cost]", "revises nothing; leave the section out"),
        ("[cost]", REVISION.replace("batch", "bach") + "[cost]", r"did you mean 'batch'\?"),
        ("[cost]", REVISION.replace("batch", "rest") + "[cost]", "none are left for a bank"),
        ("[cost]", REVISION.replace("dual_softmax", "sinkhorn").replace("batch", "rest") + "[cost]", "takes no bank"),
        ("[cost]", NETWORK + "[cost]", "has nothing to train on"),
        ('how = "ask"', GROUPED + NETWORK.replace("default", "defualt"), r"did you mean 'default'\?"),
        ('how = "ask"', GROUPED + NETWORK + 'split = "time"', "split = 'time': expected random"),
        ("about =", 'name = "x"\nabout =', "called by the name of its file"),
        ("about =", "about", "is not TOML"),
        ("[cost]\n", "", "lacks 'cost'|has no key 'weights_gb'"),
        ('about = "A plain one."', 'about = "A plain one."\ntexts = "title"', r"\[texts\] has to be a table"),
    ],
)  # fmt: skip
def test_nothing_wrong_passes(old, new, said):
    assert PLAIN.count(old) >= 1
    text = PLAIN.replace(old, new, 1)
    with pytest.raises(UsageError, match=said):
        schema.parse(text, "x", "x.toml")


def test_a_network_needs_one_encoder():
    text = (
        PLAIN.replace('how = "ask"', GROUPED).replace('["builtin"]', '["builtin", "openclip:ViT-B-32/openai"]')
        + NETWORK
    )
    with pytest.raises(UsageError, match="names several"):
        schema.parse(text, "x")


def test_recipes_are_found_by_name_or_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(PLAIN, "utf-8")
    assert schema.read(path).name == schema.read(str(path)).name == "mine"
    with pytest.raises(
        UsageError, match=r"no recipe '2021-run6' \(did you mean '2021-run\d'\?\); see: photodesk recipes"
    ):
        schema.read("2021-run6")
    with pytest.raises(UsageError, match="cannot read the recipe"):
        schema.read(tmp_path / "none.toml")


def test_the_example_of_the_docs_can_be_read():
    (text,) = re.findall(
        r"^```toml\n(.*?)^```", (ROOT / "docs/recipes.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    one = schema.parse(text, "mine")
    assert one.texts.words == (10, 40)
    assert one.revision
    assert one.network


@given(st.sampled_from(schema.names()), st.data())
@settings(deadline=None)
def test_no_misspelt_key_of_any_recipe_passes(name, data):
    lines = (ROOT / f"src/photodesk/recipes/tables/{name}.toml").read_text("utf-8").splitlines()
    at = data.draw(st.sampled_from([i for i, line in enumerate(lines) if re.match(r"\w+ = |\[\w+\]$", line)]))
    word = re.search(r"\w+", lines[at])[0]
    cut = data.draw(st.integers(0, len(word) - 1))
    wrong = word[:cut] + word[cut + 1 :] + data.draw(st.sampled_from(["", "x"]))
    if wrong == word:
        return
    lines[at] = lines[at].replace(word, wrong, 1)
    with pytest.raises(UsageError, match=f"has no key '{wrong}'|lacks '{word}'"):
        schema.parse("\n".join(lines), name)
