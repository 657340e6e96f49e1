"""`search`: photos for one article, from an archive or an index."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from photodesk.cli.archive import is_photo
from photodesk.cli.options import load_encoder
from photodesk.files import shown

if TYPE_CHECKING:
    from photodesk.search.explain import Reason
    from photodesk.search.query import Answer, Found, Question

OF_ARCHIVE = "of an archive"


@click.command()
@click.argument("index", type=click.Path(path_type=Path))
@click.argument("headline", default="")
@click.option("--top", default=10, show_default=True, type=click.IntRange(1), help="How many photos.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of lines.")
@click.option("--cosine", is_flag=True, help="Rank an index by cosine, even if it holds the numbers of a revision.")
@click.option(
    "--encoder", help="Another text tower in the space of an index's photos [default: the encoder that made it]."
)
@click.option("--lead", default="", help="The article's lead.")
@click.option("--body", type=click.File("r", encoding="utf-8"), help="File with the article's text; - is stdin.")
@click.option("--language", default="", help="Of the article, such as de; for --translate.")
@click.option(
    "--translate", default="", metavar="T", help="Translator for models that read English only; see `prepare`."
)
@click.option("--like", metavar="PHOTO", help="More like this: a picture file, or the id of a photo of the archive.")
@click.option(
    "--words",
    default="",
    help="Names or keywords that lift photos whose captions have them [default: those of the headline].",
)
@click.option("--phrase", default="", help="Words that must stand in caption, keywords or place, one after the other.")
@click.option("--since", default="", metavar="DAY", help="First day taken, YYYY-MM-DD.")
@click.option("--until", default="", metavar="DAY", help="Last day taken.")
@click.option("--credit", multiple=True, help="Any of these, exactly as in the picture.")
@click.option("--terms", multiple=True, help="Usage terms, any of these, exactly as in the picture.")
@click.option("--keyword", "keywords", multiple=True, help="All of these, exactly as in the picture.")
@click.option(
    "--orientation", multiple=True, type=click.Choice(["landscape", "portrait", "square"]), help="Any of these."
)
@click.option("--min-width", default=0, type=click.IntRange(0), help="In pixels.")
@click.option("--min-height", default=0, type=click.IntRange(0), help="In pixels.")
@click.option("--used-days", default=0, type=click.IntRange(0), help="Push down what was used in so many days.")
@click.option("--hide-used", is_flag=True, help="Leave it out instead.")
@click.option("--diverse", is_flag=True, help="Prefer photos that differ from those above them.")
@click.option(
    "--no-fold", "fold", is_flag=True, default=True, flag_value=False, help="Show near-duplicates one by one."
)
@click.option(
    "--similar", is_flag=True, help="Also list the near-duplicates that each photo stands for; JSON always has them."
)
@click.option(
    "--why", type=click.IntRange(1), metavar="RANK", help="Also say which words, regions and parts made that hit."
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
    archive`) gives the probability that each photo fits, in words too, and takes all the other options. It says so when
    nothing fits.

    \b
    photodesk search archive.index "Hochwasser an der Elbe"
    photodesk search desk/ "Hochwasser an der Elbe" --body draft.txt --words "Dresden Meißen" --since 2020-01-01 --why 1
    photodesk search desk/ --like flood.jpg --credit dpa --used-days 30
    """
    from photodesk.archive.archive import LEDGER
    from photodesk.errors import UsageError

    if (index / LEDGER).exists():
        if cosine or encoder:
            raise UsageError("--cosine and --encoder are for an index; an archive has its own encoder and revision")
        _archive(index, headline, top, as_json, options)
        return
    given = [name for name in options if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT]
    if given:
        raise UsageError(
            f"--{given[0].replace('_', '-')} is for an archive, and {index} is none; make one with: photodesk archive "
            "init DIR"
        )
    if not headline:
        raise UsageError("say what to search for, as in: photodesk search archive.index 'Hochwasser an der Elbe'")
    from photodesk.search.flat_index import Searcher

    searcher = Searcher.open(index, load_encoder(encoder) if encoder else None)
    hits = searcher.search(headline, top=top, revised=not cosine)
    if as_json:
        found = [{"photo": hit.photo, "score": hit.score, "path": str(searcher.index.paths[hit.photo])} for hit in hits]
        click.echo(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        for hit in hits:
            click.echo(f"{hit.score:.3f}\t{shown(searcher.index.paths[hit.photo])}")


def _archive(folder: Path, headline: str, top: int, as_json: bool, options: dict[str, Any]) -> None:
    from photodesk.archive.archive import Archive
    from photodesk.errors import ArchiveInUse, UsageError
    from photodesk.search.desk import Desk
    from photodesk.text.preparation import Preparation

    question = _question(headline, top, options)
    rank = options["why"]
    try:
        held = Archive.open(folder, doing="search")
    except ArchiveInUse as holder:
        if not holder.url:
            raise
        if options["translate"]:
            raise UsageError(
                f"the desk at {holder.url} translates by itself or not at all; leave --translate out"
            ) from None
        from photodesk.web.client import ask

        answer, reason, places = ask(holder, question, rank)
        show(answer, reason, places, as_json, similar=options["similar"])
        return
    with held:
        desk = Desk(held, preparation=Preparation(translate=options["translate"]) if options["translate"] else None)
        answer = desk.ask(question)
        reason = desk.why(question, answer.hits[rank - 1].photo) if rank and rank <= len(answer.hits) else None
        shown = [photo for hit in answer.hits for photo in (hit.photo, *(one.photo for one in hit.similar))]
        show(answer, reason, {photo: held.path(photo) for photo in shown}, as_json, similar=options["similar"])


def _question(headline: str, top: int, options: dict[str, Any]) -> Question:
    from photodesk import images
    from photodesk.engines.schema import Filter
    from photodesk.errors import UsageError
    from photodesk.search.query import Question
    from photodesk.types import Article

    names = ("since", "until", "credit", "terms", "keywords", "orientation", "min_width", "min_height", "phrase")
    body = options["body"].read() if options["body"] else ""
    article = Article("query", headline, options["lead"], body, language=options["language"])
    like = options["like"] or ""
    picture = images.load(Path(like)) if like and Path(like).exists() else None
    if like and picture is None and not is_photo(like):
        raise UsageError(f"--like {like}: there is no such file, and ids of photos have 32 hexadecimal digits")
    return Question(
        article if headline or options["lead"] or body.strip() else None,
        like="" if picture else like,
        picture=picture,
        where=Filter(**{name: options[name] for name in names}),
        words=options["words"],
        used_days=options["used_days"],
        hide_used=options["hide_used"],
        diverse=options["diverse"],
        fold=options["fold"],
        top=top,
    )


def as_data(answer: Answer, reason: Reason | None, places: Mapping[str, str]) -> dict[str, Any]:
    """An answer for programs; `places` has the file of each photo."""
    hits = [
        {
            "rank": rank,
            "photo": hit.photo,
            "file": places[hit.photo],
            "score": round(hit.score, 4),
            "probability": round(hit.probability, 4),
            "words": hit.words,
            "duplicates": len(hit.similar),
            "used": hit.used,
            "components": {name: round(value, 4) for name, value in hit.components.items()},
            "about": hit.entry.payload(),
            "origins": {name: list(photos) for name, photos in hit.origins.items()},
            "similar": [
                {"photo": one.photo, "file": places[one.photo]}
                | {name: getattr(one.entry, name) for name in ("source", "credit", "terms", "width", "height")}
                for one in hit.similar
            ],
        }
        for rank, hit in enumerate(answer.hits, 1)
    ]
    found: dict[str, Any] = {
        "nothing_fits": answer.nothing_fits,
        "message": answer.message,
        "calibrated": answer.calibrated,
        "hits": hits,
    }
    if reason:
        found["why"] = {
            "photo": reason.found.photo,
            "words": [list(pair) for pair in reason.words],
            "heat": reason.heat.tolist(),
            "shares": dict(reason.shares),
        }
    return found


def show(
    answer: Answer, reason: Reason | None, places: Mapping[str, str], as_json: bool, *, similar: bool = False
) -> None:
    """Probability, file (by photo in `places`), caption, credit and usage terms on stdout, everything else on stderr;
    or all of it as JSON."""
    if as_json:
        click.echo(json.dumps(as_data(answer, reason, places), ensure_ascii=False, indent=1))
        return
    if answer.message:
        click.echo(answer.message, err=True)
    for hit in answer.hits:
        click.echo(f"{hit.probability:.0%}\t{hit.words}\t{shown(places[hit.photo])}\t{shown(_about(hit))}")
        for one in hit.similar if similar else ():
            entry = one.entry
            said = (one.photo, entry.credit, f"{entry.width} × {entry.height}", _terms(entry.terms))
            click.echo(f"\tnear-duplicate\t{shown(places[one.photo])}\t{shown(_joined(said))}")
    if answer.hits and not answer.calibrated:
        click.echo(
            "probabilities are a guess: they were not fitted for this model or kind of query; see: photodesk calibrate "
            "--help",
            err=True,
        )
    if reason:
        why(reason)


def why(reason: Reason) -> None:
    """Which words, regions and parts made a hit, on stderr."""
    click.echo(f"\nwhy {reason.found.photo}", err=True)
    parts = [
        f"{name} {reason.found.components[name]:+.2f} ({share:+.0%})" for name, share in reason.shares.items() if share
    ]
    click.echo("  score, in standard deviations of what photos score in general: " + ", ".join(parts), err=True)
    for word, fall in sorted(reason.words, key=lambda pair: -pair[1])[:8]:
        click.echo(f"  {fall:+.2f}  without {word!r}" if fall else f"   0.00  without {word!r}", err=True)
    if reason.heat.size:
        shades, most = " ░▒▓█", max(float(reason.heat.max()), 1e-9)
        click.echo("  the photo, darker where covering it costs more:", err=True)
        for row in reason.heat:
            click.echo(
                "    " + "".join(shades[max(0, min(4, round(4 * float(value) / most)))] * 4 for value in row), err=True
            )


def _about(hit: Found) -> str:
    entry, names = hit.entry, {one.photo: one.entry.source.rpartition("/")[2] for one in hit.similar}

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
            told("terms", _terms(entry.terms)),
            f"and {count} near-duplicate{'s' * (count > 1)}" if count else "",
            f"used {hit.used}" if hit.used else "",
        )
    )


def _terms(terms: str) -> str:
    """Usage terms in one line, all of them."""
    return f"terms: {' '.join(terms.split())}" if terms else ""


def _joined(parts: Iterable[str]) -> str:
    return " · ".join(part for part in parts if part)
