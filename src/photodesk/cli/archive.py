"""`archive`: stores the photos of a desk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from photodesk.cli.options import (
    PATH,
    encoder_option,
    exclude_option,
    json_option,
    load_encoder,
    out_option,
    print_json,
    show_faults,
)
from photodesk.cli.progress import bars

if TYPE_CHECKING:
    from photodesk.archive.archive import Archive
    from photodesk.archive.commands import Outcome

ARCHIVE = click.argument("archive", type=PATH)
zone_option = click.option(
    "--zone",
    default="",
    metavar="NAME",
    help="The desk's, such as Europe/Berlin, for embargoes [default: the system's].",
)


@click.group("archive")
def archive() -> None:
    """Store the photos of a desk: new pictures are encoded and their metadata read, known ones are skipped.

    An archive is a folder with an engine, thumbnails and a database. One process at a time holds its lock; if that is
    `serve`, the commands here send their work to it.

    \b
    photodesk archive init desk/
    photodesk archive add desk/ pictures/
    photodesk archive stats desk/
    """


@archive.command()
@ARCHIVE
@click.option(
    "--engine",
    default="edge:shard",
    show_default=True,
    metavar="URI",
    help="edge:PATH, flat:PATH or qdrant:http://host:6333/collection.",
)
@encoder_option
@click.option(
    "--language", default="german", show_default=True, help="Language of the captions, for stemming and stop words."
)
@click.option(
    "--revise",
    default="dual_softmax(temperature=1)",
    show_default=True,
    metavar="R",
    help="How the query bank revises scores.",
)
@zone_option
def init(archive: Path, engine: str, encoder: str, language: str, revise: str, zone: str) -> None:
    """Make an empty archive in a new folder.

    \b
    photodesk archive init desk/
    photodesk archive init desk/ --engine "qdrant:http://10.0.0.5:6333/photos?shards=6&replicas=2"
    """
    from photodesk.archive.archive import Archive
    from photodesk.ranking import revisions

    made = Archive.create(
        archive, load_encoder(encoder), engine=engine, language=language, revision=revisions.parse(revise), zone=zone
    )
    made.close()
    click.echo(f"empty archive in {archive}; add photos with: photodesk archive add {archive} FOLDER", err=True)


@archive.command()
@ARCHIVE
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--watch", is_flag=True, help="Keep running and add new files until Ctrl-C.")
@click.option(
    "--poll", is_flag=True, help="With --watch: poll the folders, for network disks without change notifications."
)
@exclude_option
@click.pass_context
def add(
    context: click.Context,
    /,
    archive: Path,
    folders: tuple[Path, ...],
    watch: bool,
    poll: bool,
    exclude: tuple[str, ...],
) -> None:
    """Add all pictures below FOLDERS to the archive, with their metadata from XMP, IPTC and EXIF.

    Known contents are skipped, moved files keep their photo, everything that is left out is listed. After an
    interruption the same command resumes. Files of systems, NAS boxes and photo programs are left out, as are those
    that --exclude or a .photodeskignore in a folder names. --exclude is stored for these folders; --exclude '' deletes
    it.

    \b
    photodesk archive add desk/ pictures/ --watch
    photodesk archive add desk/ pictures/ --exclude "previews/" --exclude "*_small.jpg"
    """
    named = [str(folder.absolute()) for folder in folders]
    given = {"exclude": list(exclude)} if exclude else {}
    if not watch:
        _run(context, archive, "add", folders=named, **given)
    with commands_of(archive, "archive add") as do:
        context.exit(1 if _watch(do, named, poll, given) else 0)


def _watch(do: Callable[..., Outcome], folders: list[str], poll: bool, given: dict[str, list[str]]) -> bool:
    """Add whatever comes, until Ctrl-C. What could not be added, such as for want of room, is tried again with the next
    change."""
    from photodesk.archive.folders import changes
    from photodesk.errors import PhotodeskError

    bad, first, again = False, True, set[str]()
    for below in changes([Path(folder) for folder in folders], poll=poll):
        wanted = again | set(map(str, below))
        try:
            bad |= _show(do("add", {"folders": sorted(wanted), **given}))
            again, given = set(), {}  # the archive remembers the patterns
        except PhotodeskError as error:
            if first:
                raise
            click.echo(f"{error}; the watch goes on", err=True)
            bad, again = True, {folder for folder in wanted if Path(folder).exists()}
        if first:
            click.echo(f"watching {', '.join(folders)}; Ctrl-C ends it", err=True)
        first = False
    return bad


@archive.command()
@ARCHIVE
@click.argument("paths", nargs=-1, type=PATH)
@click.option("--photo", "photos", multiple=True, metavar="ID", help="A photo by its id; may be given several times.")
@click.option(
    "--missing",
    is_flag=True,
    help="Remove files that are gone from the disk, unless their disk may be unmounted: an added folder is gone, or a "
    "folder is empty.",
)
@click.option("--force", is_flag=True, help="With --missing: also those of folders that are gone or empty.")
@click.pass_context
def remove(
    context: click.Context,
    /,
    archive: Path,
    paths: tuple[Path, ...],
    photos: tuple[str, ...],
    missing: bool,
    force: bool,
) -> None:
    """Forget files, everything below folders, or photos. The pictures themselves are not touched.

    Names that the archive does not know are listed, and so are added folders of which nothing is left (exit code 1).

    \b
    photodesk archive remove desk/ pictures/withdrawn/
    photodesk archive remove desk/ --missing
    """
    from photodesk.errors import UsageError

    if not (paths or photos or missing):
        raise UsageError("say what to remove: PATHS, --photo ID or --missing")
    named = [str(path.absolute()) for path in paths]
    _run(context, archive, "remove", paths=named, photos=list(photos), missing=missing, force=force)


@archive.command()
@ARCHIVE
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO|PATH...")
@click.option("--day", default="", metavar="DAY", help="YYYY-MM-DD [default: today].")
@click.option("--article", default="", metavar="TEXT", help="The article: a title, an address, a number.")
@click.pass_context
def use(context: click.Context, /, archive: Path, photos: tuple[str, ...], day: str, article: str) -> None:
    """Record that photos, by id or file, were printed or put online: `search --used-days` ranks them lower.

    \b
    photodesk archive use desk/ pictures/flood.jpg --day 2026-11-21 --article "Hochwasser an der Elbe"
    """
    from photodesk.search.schema import is_photo

    named = [one if is_photo(one) else str(Path(one).absolute()) for one in photos]
    _run(context, archive, "use", photos=named, day=day, article=article)


@archive.command()
@ARCHIVE
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO|PATH...")
@click.option(
    "--until", default="", metavar="MOMENT", help="When the embargo ends, as usage terms say it [default: now]."
)
@click.option("--withdraw", is_flag=True, help="Go by the usage terms again.")
@click.pass_context
def release(context: click.Context, /, archive: Path, photos: tuple[str, ...], until: str, withdraw: bool) -> None:
    """Say when the embargo of photos, by id or file, ends: where their usage terms do not say it, or otherwise.

    Near-duplicates with the same terms are released too. It holds as long as the terms stay what they are.

    \b
    photodesk archive release desk/ pictures/speech.jpg
    photodesk archive release desk/ pictures/speech.jpg --until "31.5.2030, 18 Uhr"
    """
    from photodesk.errors import UsageError
    from photodesk.search.schema import is_photo

    if until and withdraw:
        raise UsageError("give --until or --withdraw, not both")
    named = [one if is_photo(one) else str(Path(one).absolute()) for one in photos]
    _run(context, archive, "release", photos=named, until=until, withdraw=withdraw)


@archive.command()
@ARCHIVE
def faults(archive: Path) -> None:
    """List every file that could not be added: where, why, what to do; other files in the folders by kind.

    \b
    photodesk archive faults desk/
    """
    with commands_of(archive, "archive faults") as do:
        outcome = do("faults", {})
    show_faults(outcome.faults, every=True, err=False)
    click.echo(outcome.message, err=True)


@archive.command()
@ARCHIVE
@click.option("--metadata", is_flag=True, help="Read the metadata of all files again, XMP sidecars too.")
@click.option(
    "--bank",
    type=click.Path(path_type=Path, exists=True),
    metavar="FILE",
    help="Add these articles to the query bank.",
)
@click.option(
    "--encoder",
    metavar="NAME",
    help="Re-encode every photo with this model and use it from then on; not while `serve` runs.",
)
@zone_option
@click.pass_context
def update(
    context: click.Context, /, archive: Path, metadata: bool, bank: Path | None, encoder: str | None, zone: str
) -> None:
    """Walk all folders again, compute hubness offsets by the query bank, optimise the index; after an update of
    photodesk, also spell the words of captions as it does now.

    \b
    photodesk archive update desk/
    photodesk archive update desk/ --bank articles.csv
    photodesk archive update desk/ --encoder builtin
    """
    if encoder:
        _reencode(archive, encoder)
    _run(context, archive, "update", metadata=metadata, bank=str(bank.absolute()) if bank else "", zone=zone)


@archive.command()
@ARCHIVE
@json_option
def stats(archive: Path, as_json: bool) -> None:
    """Show what is in the archive.

    \b
    photodesk archive stats desk/
    """
    with commands_of(archive, "archive stats") as do:
        found = do("stats", {}).data
    if as_json:
        print_json(found)
        return
    for name in ("engine", "encoder", "photos", "files", "groups", "faults", "uses", "picks", "bank"):
        click.echo(f"{name:<12}{found[name]:,}" if isinstance(found[name], int) else f"{name:<12}{found[name]}")
    click.echo(f"{'revised':<12}{'yes' if found['revised'] else 'no'}")
    click.echo(f"{'taken':<12}{' to '.join(found['taken']) if found['taken'][0] else 'unknown'}")
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in found["left_out"].items())
    click.echo(f"{'left out':<12}{kinds or '-'}")
    for name, values in found["facets"].items():
        click.echo(f"{name:<12}" + (", ".join(f"{value} {count:,}" for value, count in values.items()) or "-"))
    for name, size in found["bytes"].items():
        click.echo(f"{name:<12}{size / 2**20:,.1f} MB")
    for job in found["jobs"]:
        click.echo(f"{'job':<12}{job['started']} {job['command']}: {job['state']} {job['message']}".rstrip())


@archive.command()
@ARCHIVE
@click.option("--content", is_flag=True, help="Also read every picture and compare its content.")
@click.option(
    "--repair",
    is_flag=True,
    help="Repair what can be repaired: thumbnails, points without a file, photos that the engine lost or damaged.",
)
@click.pass_context
def verify(context: click.Context, /, archive: Path, content: bool, repair: bool) -> None:
    """List everything that is wrong with the archive; exit code 1 if anything is left for you to do.

    \b
    photodesk archive verify desk/
    """
    _run(context, archive, "verify", content=content, repair=repair)


@archive.command()
@ARCHIVE
@click.argument("target", type=PATH)
@click.option("--no-thumbnails", is_flag=True, help="Leave them out; `verify --repair` makes them again.")
@click.pass_context
def backup(context: click.Context, /, archive: Path, target: Path, no_thumbnails: bool) -> None:
    """Write a copy to the new folder TARGET, which is an archive itself.

    \b
    photodesk archive backup desk/ /mnt/backup/desk-2026-11-22
    """
    _run(context, archive, "backup", target=str(target.absolute()), thumbnails=not no_thumbnails)


@archive.command()
@ARCHIVE
@out_option("DIR", "New folder: a data set for `train`.", PATH)
@click.pass_context
def picks(context: click.Context, /, archive: Path, out: Path) -> None:
    """Write the photos that were picked in `serve`, with their articles, as pairs to train on.

    \b
    photodesk archive picks desk/ -o picks/
    photodesk train newsimages2025/ picks/ -o bridge.safetensors

    `photodesk train --picks` needs no folder.
    """
    _run(context, archive, "picks", target=str(out.absolute()))


@archive.command()
@ARCHIVE
@click.argument("uri")
@click.pass_context
def move(context: click.Context, /, archive: Path, uri: str) -> None:
    """Stream all points to another engine, compare every one there, and use that engine from then on.

    \b
    photodesk archive move desk/ "qdrant:http://10.0.0.5:6333/photos?shards=6&replicas=2"
    """
    _run(context, archive, "move", uri=uri)


def _reencode(folder: Path, name: str) -> None:
    from photodesk.archive import migration
    from photodesk.archive.archive import Archive

    encoder = load_encoder(name)
    with Archive.open(folder, doing="archive update") as archive:
        if encoder.reads(archive.settings.fingerprint):
            click.echo(f"{folder} is of that model already", err=True)
            return
        old, bank = archive.settings.engine, archive.database.count("bank")
        with bars() as progress:
            count, faults = migration.reencode(archive, encoder, progress)
        show_faults(faults)
        click.echo(
            f"{count:,} photos encoded by {encoder.name} in {archive.settings.engine}; {old} may be deleted", err=True
        )
        if bank:
            click.echo(
                f"the bank of {bank:,} articles is empty now, for their texts are not kept; give them again with "
                "--bank",
                err=True,
            )


@contextmanager
def commands_of(folder: Path, doing: str, *, repair: bool = False) -> Iterator[Any]:
    """A function that runs commands of `archive.commands`: here where the archive is free, at the server that holds it
    where it is not."""
    import functools

    from photodesk.archive import commands
    from photodesk.archive.archive import Archive
    from photodesk.encoders import registry
    from photodesk.errors import ArchiveInUse
    from photodesk.web import client

    try:
        held: Archive = Archive.open(folder, doing=doing, repair=repair)
    except ArchiveInUse as holder:
        if not holder.url:
            raise
        click.echo(f"process {holder.pid} holds {folder} and does this at {holder.url}", err=True)

        def send(command: str, options: dict[str, Any], holder: ArchiveInUse = holder) -> Outcome:
            with bars() as progress:
                return client.run(holder, command, options, progress)

        yield send
        return
    if held.recovered:
        click.echo(f"{held.recovered} photos that an earlier stop had left half done were put right", err=True)
    if held.database.read_only:
        click.echo(f"{folder} is on a read-only or full disk; it can be read, and nothing is noted", err=True)
    encoder = functools.cache(lambda: registry.load(held.settings.encoder))

    def do(command: str, options: dict[str, Any]) -> Outcome:
        with bars() as progress:
            return commands.run(held, encoder, command, options, progress)

    with held:
        yield do


def _run(context: click.Context, archive: Path, command: str, **options: Any) -> NoReturn:
    """Run a command, say what came of it, and end with 1 if any fault needs the user."""
    with commands_of(archive, f"archive {command}", repair=bool(options.get("repair"))) as do:
        bad = _show(do(command, options))
    context.exit(1 if bad else 0)


def _show(outcome: Outcome) -> bool:
    """Faults, then the line; whether any fault needs the user."""
    bad = show_faults(outcome.faults)
    click.echo(outcome.message, err=True)
    return bad
