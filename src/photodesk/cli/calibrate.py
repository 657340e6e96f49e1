"""`calibrate`: scores → probabilities."""

from __future__ import annotations

from pathlib import Path

import click

from photodesk.cli.options import FILE, PATH, cache_option, load_encoder, out_option, seed_option, show_data
from photodesk.cli.progress import bars


@click.command()
@click.argument("data", nargs=-1, required=True, type=PATH)
@click.option(
    "--encoder",
    default="builtin",
    show_default=True,
    help="The encoder whose scores are calibrated; of a network trained with --test, the test part is used.",
)
@click.option(
    "--for",
    "use",
    metavar="E",
    help="The encoder that will use the curve, such as the same network trained again on every pair [default: "
    "--encoder].",
)
@out_option("JSON", "Such as desk/confidence.json, which is used by that archive.")
@click.option("--plot", type=FILE, metavar="SVG", help="Also draw the reliability plot: predicted against observed.")
@seed_option("Random seed of the halves and galleries.")
@cache_option
def calibrate(
    data: tuple[Path, ...], encoder: str, use: str | None, out: Path, plot: Path | None, seed: int, cache: Path | None
) -> None:
    """Fit a curve from scores to the probability that a photo fits, on pairs that the encoder was not trained on.

    Give the same DATA as in `train`. Half of the pairs are used for the fit, the other half to measure its reliability.
    Embeddings are stored, so a second call takes seconds and an interrupted one resumes.

    \b
    photodesk train newsimages2025/ -o net.safetensors --test 2000
    photodesk calibrate newsimages2025/ --encoder txv@net.safetensors -o desk/confidence.json --plot reliability.svg
    """
    from photodesk.data import datasets
    from photodesk.features.store import Store
    from photodesk.files import replacing
    from photodesk.search import calibrate as fitting
    from photodesk.search import confidence

    read = [datasets.read(path) for path in data]
    for dataset in read:
        show_data(dataset)
    loaded = load_encoder(encoder)
    with bars() as progress:
        made = fitting.calibrate(
            read, loaded, load_encoder(use) if use else loaded, Store(cache), seed=seed, progress=progress
        )
    made.save(out)
    found = made.reliability
    assert found
    if plot:
        with replacing(plot) as stream:
            stream.write(fitting.plot(found))
    click.echo("said   right  hits")
    for said, seen, hits in zip(found.said, found.seen, found.hits, strict=True):
        click.echo(f"{said:.3f}  {seen:.3f}  {hits:>5,}")
    click.echo(f"expected calibration error {found.error:.4f} on {sum(found.hits):,} hits of {made.about['measured']}")
    click.echo(f"best hit of a gallery of {confidence.ODDS}, where it is at least so likely:")
    for least, share, right in found.precision:
        click.echo(f"  {least:.0%} ({confidence.words(least)}): {share:.0%} of the articles, {right:.0%} right")
    click.echo(f"best hit of all {found.photos:,} photos: {found.strict:.1%} right")
    click.echo(f"the curve of {made.fingerprint} is in {out}", err=True)
