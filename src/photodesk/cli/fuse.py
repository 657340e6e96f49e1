"""`fuse`: several runs become one."""

from __future__ import annotations

from pathlib import Path

import click

from photodesk.cli.options import PATH, out_option


@click.command()
@click.argument("run", nargs=-1, required=True, type=PATH)
@out_option("RUN", "Run file: .tsv or .trec.")
@click.option("--weights", metavar="W,W", help="One per run, such as 2,1 [default: equal].")
@click.option(
    "-k",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0),
    help="The larger, the less the first ranks dominate.",
)
@click.option("--top", default=100, show_default=True, type=click.IntRange(1), help="Photos per article.")
@click.option("--decimal-comma", is_flag=True, help="TREC files write 0,25 for 0.25.")
def fuse(run: tuple[Path, ...], out: Path, weights: str | None, k: float, top: int, decimal_comma: bool) -> None:
    """Fuse run files by reciprocal rank: a photo scores the sum of weight / (k + rank) over the runs that rank it.

    Scores of the runs do not matter, so runs of any models and tools can be fused. The fused run is transductive if one
    of them is. To average the scores of several encoders or word limits, write a recipe instead: see `recipes`.

    \b
    photodesk fuse run.tsv tags.tsv -o both.tsv
    photodesk fuse clip.trec builtin.tsv --weights 2,1 -o both.tsv
    """
    from photodesk.errors import UsageError
    from photodesk.evaluation import run_files
    from photodesk.ranking import fusion

    try:
        chosen = [float(part) for part in weights.split(",")] if weights else None
    except ValueError:
        raise UsageError(f"--weights {weights}: expected numbers with commas between them, such as 2,1") from None
    if len(run) < 2:
        raise UsageError("fusing needs two run files or more")
    fused = fusion.reciprocal_rank(
        [run_files.read(path, decimal_comma=decimal_comma) for path in run], chosen, k=k, top=top
    )
    run_files.write(fused, out)
    seen = f"; transductive: {fused.transductive}" if fused.transductive else ""
    click.echo(f"{len(run)} runs over {len(fused)} articles fused into {out}{seen}", err=True)
