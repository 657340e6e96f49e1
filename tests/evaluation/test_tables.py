import io

from rich.console import Console

from photodesk.evaluation.tables import Table

TABLE = Table("A & B_1", ("run", "R@1"), (("x|y_z", "0.5"), ("ä", "10.25")), left=1)


def test_text_is_aligned():
    assert TABLE.text() == "A & B_1\nrun      R@1\nx|y_z    0.5\nä      10.25"


def test_markdown_escapes_the_bar():
    assert TABLE.markdown() == "A & B_1\n\n| run | R@1 |\n| :-- | --: |\n| x\\|y_z | 0.5 |\n| ä | 10.25 |"


def test_latex_escapes_its_signs():
    assert TABLE.latex().splitlines() == [
        "% A & B_1",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"run & R@1 \\",
        r"\midrule",
        r"x|y\_z & 0.5 \\",
        r"ä & 10.25 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert (
        r"\textbackslash{}\&\%\$\#\_\{\}\textasciitilde{}\textasciicircum{}" in Table("", (r"\&%$#_{}~^",), ()).latex()
    )


def test_a_title_cannot_end_the_latex_comment():
    assert Table("a\nb", ("x",), ()).latex().startswith("% a b\n\\begin")


def test_rich_shows_every_cell_as_it_is():
    stream = io.StringIO()
    Console(file=stream, width=60).print(Table("[b]t", ("[red]run", "R@1"), (("[x]", "1"),)).rich())
    assert all(text in stream.getvalue() for text in ("[b]t", "[red]run", "[x]", "R@1"))
