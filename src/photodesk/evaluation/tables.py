"""Tables of text for a terminal, Markdown and LaTeX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table as RichTable

_LATEX = str.maketrans(
    {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {c: "\\" + c for c in "&%$#_{}"}
)


@dataclass(frozen=True, slots=True)
class Table:
    """Text in rows and columns.

    Args:
        title: above the table.
        head: a cell per column.
        rows: as many cells as `head` each.
        left: number of columns, from the first, that are aligned left; the others hold figures.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1

    def text(self) -> str:
        """Plain text, without a final line end."""
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        form = "  ".join(f"{{:{'<' if i < self.left else '>'}{width}}}" for i, width in enumerate(widths))
        return "\n".join([self.title, *(form.format(*row).rstrip() for row in (self.head, *self.rows))])

    def markdown(self) -> str:
        """A pipe table, with the title as a paragraph above it."""

        def line(cells: tuple[str, ...]) -> str:
            return "| " + " | ".join(cell.replace("\\", "\\\\").replace("|", "\\|") for cell in cells) + " |"

        rule = tuple(":--" if i < self.left else "--:" for i in range(len(self.head)))
        return "\n".join([self.title, "", line(self.head), line(rule), *map(line, self.rows)])

    def latex(self) -> str:
        """A booktabs `tabular` for a `table`, with the title as a comment above it."""

        def line(cells: tuple[str, ...]) -> str:
            return " & ".join(cell.translate(_LATEX) for cell in cells) + r" \\"

        columns = "l" * self.left + "r" * (len(self.head) - self.left)
        body = [r"\begin{tabular}{" + columns + "}", r"\toprule", line(self.head), r"\midrule", *map(line, self.rows)]
        return "\n".join([f"% {' '.join(self.title.split())}", *body, r"\bottomrule", r"\end{tabular}"])

    def rich(self) -> RichTable:
        """For `rich.console.Console.print`."""
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(title=Text(self.title), title_justify="left")
        for i, name in enumerate(self.head):
            table.add_column(Text(name), justify="left" if i < self.left else "right")
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table
