"""`serve`: the photo desk in the browser and over HTTP."""

from __future__ import annotations

from pathlib import Path

import click

from photodesk.cli.options import PATH


@click.command()
@click.argument("archive", type=PATH)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; any but this machine's needs a token."
)
@click.option(
    "--port",
    default=8642,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--token",
    envvar="PHOTODESK_TOKEN",
    default="",
    help="Token that visitors must send [default: generated if one is needed].",
)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="HOST",
    help="Another host name of this server, behind a proxy; may be given several times.",
)
@click.option(
    "--translate",
    default="",
    metavar="T",
    help="Translator of drafts, for models that read English only; see `prepare`.",
)
@click.option("--log-texts", is_flag=True, help="Also log what is searched for. Logs hold no article text otherwise.")
def serve(
    archive: Path, host: str, port: int, token: str, names: tuple[str, ...], translate: str, log_texts: bool
) -> None:
    """Serve ARCHIVE: paste a draft in the browser, see the photos that fit as you type.

    The server holds the lock of the archive as long as it runs; `photodesk archive add` and the others send their work
    to it. Ctrl-C stops it.

    \b
    photodesk serve desk/
    PHOTODESK_TOKEN=… photodesk serve desk/ --host 0.0.0.0
    """
    from photodesk.web.server import run

    def say(line: str) -> None:
        click.echo(line, err=True)

    run(archive, host=host, port=port, token=token, names=names, log_texts=log_texts, translate=translate, say=say)
