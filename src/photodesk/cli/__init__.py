"""The command line: thin, one command per public function, each file loaded only when its command is called.

stdout is for data, stderr for messages. Exit codes: 0 done, 1 done with named faults, 2 wrong call or unusable input,
70 a bug of photodesk (as in sysexits.h), 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import importlib
import sys
import traceback

import click

from photodesk import __version__
from photodesk.errors import PhotodeskError
from photodesk.text_repair import shown

# command → (file of this folder, what `photodesk --help` says of it)
COMMANDS = {
    "ablate": ("recipes", "Leave out one component of a recipe at a time, and measure what each contributes."),
    "archive": ("archive", "Keep the photos of a desk: init, add, remove, update, stats, verify, backup, move."),
    "calibrate": ("calibrate", "Fit a curve from scores to the probability that a photo fits."),
    "check": ("data", "List every fault of a data set by file and line, and what photodesk does about it."),
    "compare": ("evaluation", "Test whether one run is significantly better than another."),
    "encoders": ("encoders", "List the models that encode texts and photos, and what they cost here."),
    "evaluate": ("evaluation", "Evaluate run files against the right pairs: R@1 … R@100, MRR@100."),
    "export": ("encoders", "Write an open_clip model as ONNX that runs without torch."),
    "fetch": ("data", "Download the pictures that a data set gives by URL, rate-limited and checked."),
    "fuse": ("fuse", "Fuse several run files into one by reciprocal rank."),
    "index": ("index", "Encode a folder of photos into an index for `search`."),
    "prepare": ("prepare", "Detect, translate, clean and cut the texts of articles, and show before and after."),
    "rank": ("rank", "Rank the photos for every article of a data set and write a run file."),
    "recipes": ("recipes", "List the rows of the papers' tables that can be reproduced, and what each needs."),
    "reproduce": ("recipes", "Reproduce a row of a paper's table and print our figures next to it."),
    "search": ("search", "Find photos of an archive or an index for one article or photo."),
    "serve": ("serve", "Serve an archive in the browser and over HTTP: paste a draft, see the photos that fit."),
    "store": ("store", "Verify, compact and clean up the feature store."),
    "submit": ("evaluation", "Make the zip of pictures that NewsImages 2025 and 2026 require."),
    "train": ("train", "Train a T×V network on frozen features."),
    "tune": ("tune", "Choose how scores are revised, and the temperature, on a validation part."),
    "validate": ("evaluation", "List every fault of a run file or a submission zip."),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"photodesk.cli.{COMMANDS[name][0]}")
        command = getattr(module, name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="photodesk")
def commands() -> None:
    """Rank photos for news articles.

    Give it articles in any language and a folder of photos; it ranks the photos for every article.

    \b
    photodesk rank DATA --out run.tsv --report report.html    articles.csv + photos in DATA
    photodesk evaluate DATA run.tsv                           R@1 … R@100 and MRR of that run
    photodesk index PHOTOS -o INDEX                           encode a folder once
    photodesk search INDEX "Hochwasser an der Elbe"           and search it for one headline
    """


def main() -> None:
    """Entry point: errors for users, and files that cannot be read or written, become one line on stderr and exit code
    2."""
    try:
        code = commands.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:
        click.echo("stopped; what was finished is kept, and the same command resumes", err=True)
        code = 130
    except PhotodeskError as error:
        click.echo(shown(f"photodesk: {error}"), err=True)
        code = 2
    except OSError as error:  # what a command could not read or write; click handles a pipe that its reader closed
        place, reason = error.filename2 or error.filename, error.strerror or str(error) or type(error).__name__
        click.echo(shown(f"photodesk: {f'{place}: ' if place else ''}{reason}"), err=True)
        code = 2
    except Exception:  # Python would exit with 1, which means done with faults
        traceback.print_exc()
        click.echo("photodesk: this is a bug of photodesk, not your mistake; report it with the lines above", err=True)
        code = 70
    sys.exit(code if isinstance(code, int) else 0)
