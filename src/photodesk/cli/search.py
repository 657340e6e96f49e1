"""`search`: photos for one article, from an archive or an index."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from photodesk.cli.options import load_encoder, print_json
from photodesk.text_repair import shown

if TYPE_CHECKING:
    from photodesk.search.schema import Answer, Hit, Known, Located, Why


@click.command()
@click.argument("index", type=click.Path(path_type=Path))
@click.argument("headline", default="")
@click.option("--top", default=10, show_default=True, type=click.IntRange(1), help="How many photos.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of lines.")
@click.option("--cosine", is_flag=True, help="Rank an index by cosine, even if it holds hubness offsets.")
@click.option(
    "--encoder", help="Another text tower in the space of an index's photos [default: the encoder that made it]."
)
@click.option("--lead", default="", help="The article's lead.")
@click.option(
    "--body", "text", type=click.File("r", encoding="utf-8"), help="File with the article's text; - is stdin."
)
@click.option("--language", default="", help="Language of the article, such as de; for --translate.")
@click.option(
    "--translate", default="", metavar="T", help="Translator for models that read English only; see `prepare`."
)
@click.option(
    "--like",
    default="",
    metavar="PHOTO",
    help="Find similar photos: a picture file, or the id of a photo of the archive.",
)
@click.option(
    "--words",
    default="",
    help="Names or keywords that raise photos whose captions have them [default: those of headline and lead].",
)
@click.option(
    "--phrase",
    default="",
    help="Words that must occur in headline, caption, keywords, place or byline, one after the other.",
)
@click.option(
    "--without",
    multiple=True,
    metavar="WORD",
    help="What is not to be seen: photos that show it sink, those whose captions have it are left out.",
)
@click.option("--since", default="", metavar="DAY", help="First day taken: 2024-05-31, 31.5.2024, 2024-05 or 2024.")
@click.option("--until", default="", metavar="DAY", help="Last day taken; a month or year ends then.")
@click.option("--person", "people", multiple=True, metavar="NAME", help="All of these are shown, in any spelling.")
@click.option(
    "--file", default="", metavar="PATTERN", help="Part of the file's name or folders; * and ? are any letters."
)
@click.option("--credit", multiple=True, help="Any of these, in any spelling.")
@click.option("--provider", multiple=True, help="Any of these.")
@click.option("--terms", multiple=True, help="Usage terms, any of these.")
@click.option("--keyword", "keywords", multiple=True, help="All of these.")
@click.option("--label", multiple=True, help="Colour, any of these.")
@click.option("--rating", "min_rating", default=0, type=click.IntRange(0, 5), metavar="N", help="Stars at least.")
@click.option(
    "--urgency", "max_urgency", default=0, type=click.IntRange(0, 8), metavar="N", help="1 to N; 1 is the most urgent."
)
@click.option(
    "--orientation",
    multiple=True,
    type=click.Choice(["landscape", "portrait", "square"]),
    help="May be given several times.",
)
@click.option("--min-width", default=0, type=click.IntRange(0), help="Minimum width in pixels.")
@click.option("--min-height", default=0, type=click.IntRange(0), help="Minimum height in pixels.")
@click.option(
    "--used-days", default=0, type=click.IntRange(0), help="Rank photos lower that were used in the last N days."
)
@click.option(
    "--hide-used", "used", flag_value="hide", default="down", help="With --used-days: leave these photos out instead."
)
@click.option("--diverse", is_flag=True, help="Prefer photos that differ from those above them.")
@click.option(
    "--no-fold", "fold", is_flag=True, default=True, flag_value=False, help="Show near-duplicates one by one."
)
@click.option("--similar", is_flag=True, help="Also list the near-duplicates of each photo; JSON always has them.")
@click.option(
    "--why",
    type=click.IntRange(1),
    metavar="RANK",
    help="Explain that hit: words, regions of the picture and components of the score.",
)
@click.pass_context
def search(
    context: click.Context,
    /,
    index: Path,
    headline: str,
    top: int,
    as_json: bool,
    cosine: bool,
    encoder: str | None,
    **options: Any,
) -> None:
    """Find photos of an archive or INDEX for one HEADLINE, best first.

    An index gives score and file; one that was made with --revise gives revised scores. An archive (`photodesk
    archive`) gives the probability that each photo fits, also in words, and takes all the other options. If no photo is
    likely to fit, it says so.

    \b
    photodesk search archive.index "Hochwasser an der Elbe"
    photodesk search desk/ "Hochwasser an der Elbe" --body draft.txt --words "Dresden Meißen" --since 2020-01-01 --why 1
    photodesk search desk/ --like flood.jpg --credit dpa --used-days 30
    """
    from photodesk.archive.archive import DATABASE
    from photodesk.errors import UsageError

    if (index / DATABASE).exists():
        if cosine or encoder:
            raise UsageError("--cosine and --encoder are for an index; an archive has its own encoder and revision")
        _search_archive(index, top, as_json, options | {"headline": headline})
        return
    for option in context.command.params:
        if option.name in options and context.get_parameter_source(option.name) is not ParameterSource.DEFAULT:
            raise UsageError(
                f"{option.opts[0]} is for an archive, and {index} is none; make one with: photodesk archive init DIR"
            )
    if not headline:
        raise UsageError("say what to search for, as in: photodesk search archive.index 'Hochwasser an der Elbe'")
    _search_index(index, headline, top, as_json, cosine, encoder)


def _search_index(folder: Path, headline: str, top: int, as_json: bool, cosine: bool, encoder: str | None) -> None:
    from photodesk.search.flat_index import Searcher
    from photodesk.search.schema import DIGITS, IndexHit

    searcher = Searcher.open(folder, load_encoder(encoder) if encoder else None)
    found = searcher.search(headline, top=top, revised=not cosine)
    paths = searcher.index.paths
    hits = [
        IndexHit(rank, round(hit.score, DIGITS), hit.photo, str(paths[hit.photo])) for rank, hit in enumerate(found, 1)
    ]
    if as_json:
        print_json({"hits": [asdict(hit) for hit in hits]})
    for hit in () if as_json else hits:
        click.echo(f"{hit.score:.3f}\t{shown(hit.file)}")


def _search_archive(folder: Path, top: int, as_json: bool, options: dict[str, Any]) -> None:
    from photodesk import images
    from photodesk.archive.archive import Archive
    from photodesk.errors import ArchiveInUse, UsageError
    from photodesk.search import schema
    from photodesk.search.desk import Desk
    from photodesk.text.preparation import Preparation

    rank, translate, like, text = (options.pop(name) for name in ("why", "translate", "like", "text"))
    similar = options.pop("similar")
    if rank and rank > top:
        raise UsageError(f"--why {rank}: an answer of --top {top} has no such rank")
    picture = images.load(Path(like)) if like and Path(like).exists() else None
    if like and picture is None and not schema.is_photo(like):
        raise UsageError(f"--like {like}: there is no such file, and ids of photos have 32 hexadecimal digits")
    query = schema.Query(**options, top=top, text=text.read() if text else "", like="" if picture else like)
    question = query.question(picture)
    try:
        held = Archive.open(folder, doing="search")
    except ArchiveInUse as holder:
        if not holder.url:
            raise
        if translate:
            raise UsageError(
                f"the desk at {holder.url} translates by itself or not at all; leave --translate out"
            ) from None
        from photodesk.web.client import ask

        _show(*ask(holder, query, picture, rank=rank), rank, as_json, similar)
        return
    with held:
        if held.database.read_only:
            click.echo(f"{folder} is on a read-only or full disk; it can be read, and nothing is noted", err=True)
        if query.language and not translate:
            raise UsageError(
                f"--language {query.language} is for a translator, and none is named; give --translate, or leave it out"
            )
        desk = Desk(held, preparation=Preparation(translate=translate) if translate else None)
        found = desk.ask(question)
        reasons = [desk.why(question, hit.photo) for hit in found.hits[rank - 1 : rank]] if rank else []
        reason = next((schema.why(reason, held.path) for reason in reasons), None)
        _show(schema.answer(found, held.path), reason, rank, as_json, similar)


def _show(answer: Answer, reason: Why | None, rank: int | None, as_json: bool, similar: bool) -> None:
    """Probability, file, caption, credit and usage terms on stdout, everything else on stderr; or all of it as JSON."""
    from photodesk.search.confidence import WORDS

    if rank and not reason:
        count = len(answer.hits)
        click.echo(f"--why {rank}: the answer has {count} photo{'s' * (count != 1)}", err=True)
    if as_json:
        print_json(asdict(answer) | ({"why": asdict(reason)} if reason else {}))
        return
    if answer.message:
        click.echo(answer.message, err=True)
    for hit in answer.hits:
        click.echo(f"{hit.probability:.0%}\t{WORDS[hit.level]}\t{shown(_file(hit))}\t{shown(_about(hit))}")
        for one in hit.similar if similar else ():
            size = f"{one.about.width} × {one.about.height}"
            told = _joined((one.photo, one.about.credit, size, _embargo(one), _terms(one.about.terms)))
            click.echo(f"\tnear-duplicate\t{shown(_file(one))}\t{shown(told)}")
    if answer.hits and not answer.calibrated:
        click.echo(
            "probabilities are a guess: they were not fitted for this model or kind of query; see: photodesk calibrate "
            "--help",
            err=True,
        )
    if reason:
        _explain(reason)


def _explain(why: Why) -> None:
    """Which words, regions and parts made a hit, on stderr."""
    click.echo(f"\nwhy {why.photo}", err=True)
    parts = [f"{name} {why.components[name]:+.2f} ({share:+.0%})" for name, share in why.shares.items() if share]
    click.echo("  score, in standard deviations of what photos score in general: " + ", ".join(parts), err=True)
    for word in sorted(why.words, key=lambda word: -word.fall)[:8]:
        click.echo(f"  {word.fall:{'+' if word.fall else ' '}.2f}  without {word.text!r}", err=True)
    if why.heat:
        shades, most = " ░▒▓█", max(*map(max, why.heat), 1e-9)
        click.echo("  the photo, darker where covering it costs more:", err=True)
        for row in why.heat:
            cells = (shades[max(0, min(4, round(4 * value / most)))] * 4 for value in row)
            click.echo("    " + "".join(cells), err=True)


def _file(photo: Located) -> str:
    return photo.file or photo.photo


def _about(hit: Hit) -> str:
    entry, names = hit.about, {one.photo: one.about.source.rpartition("/")[2] for one in hit.similar}

    def told(field: str, text: str) -> str:
        """The text, and which near-duplicates it comes from: their file names, or ids where they are hits of their
        own."""
        of = ", ".join(names.get(photo) or photo for photo in hit.origins.get(field, ()))
        return f"{text} (of {of})" if text and of else text

    title = min(
        ("headline", "caption"), key=lambda name: (not getattr(entry, name), name in hit.origins)
    )  # its own before another's
    count = len(hit.similar)
    return _joined(
        (
            told(title, " ".join(getattr(entry, title).split())[:80]),
            told("credit", entry.credit),
            told("taken", entry.taken[:10]),
            _embargo(hit),
            told("terms", _terms(entry.terms)),
            f"and {count} near-duplicate{'s' * (count > 1)}" if count else "",
            f"used {hit.used}" if hit.used else "",
        )
    )


def _embargo(photo: Known) -> str:
    """Whether its usage terms forbid it now, and until when; after that they do not any more."""
    from photodesk.archive.embargo import UNKNOWN

    if not photo.embargoed:
        return ""
    return "EMBARGO, end unknown" if photo.embargo == UNKNOWN else f"EMBARGO until {photo.embargo.replace('T', ' ')}"


def _terms(terms: str) -> str:
    """Usage terms in one line, all of them."""
    return f"terms: {' '.join(terms.split())}" if terms else ""


def _joined(parts: Iterable[str]) -> str:
    return " · ".join(part for part in parts if part)
