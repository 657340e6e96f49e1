"""A model's files: placed by hand, in the Hugging Face cache, or downloaded – and where to put them if none of that
works.

What is on the machine is used without asking anybody. Else the hub is tried, for a few seconds only: without a network
its own library tries again for half a minute.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from photodesk.errors import EncoderError, MissingExtra, require
from photodesk.files import cache_folder, read_text

PATIENCE = 4.0  # seconds until a hub that does not answer counts as out of reach
CONFIGS = ("*.json", "*.txt", "*.model", "*.spm", "*.jinja")
TENSORS = ("*.safetensors",)


def place(repository: str) -> Path:
    """The folder where a user may put files of a repository by hand."""
    return cache_folder() / "models" / repository.replace("/", "--")


def find(repository: str, names: Sequence[str]) -> Path | None:
    """The first of the files `names` that is on this machine."""
    for name in names:
        if (place(repository) / name).is_file():
            return place(repository) / name
        with contextlib.suppress(
            ValueError, MissingExtra
        ):  # a name that the hub does not allow; no cache without its library
            if isinstance(
                cached := require("huggingface_hub", "openclip").try_to_load_from_cache(repository, name), str
            ):
                return Path(cached)
    return None


def file(repository: str, names: Sequence[str], *, instead: str = "") -> Path:
    """One file of a repository, downloaded if need be.

    Args:
        repository: `owner/name` on the hub.
        names: what the file may be called, the best first.
        instead: how else the user can name their own copy, for the message.

    Raises:
        EncoderError: it is not here and cannot be fetched; says which file to put where.
    """
    if found := find(repository, names):
        return found
    hub = require("huggingface_hub", "openclip")
    _check_reach(hub, repository, names[0], instead)
    reason = ""
    for name in names:
        try:
            return Path(hub.hf_hub_download(repository, name))
        except hub.errors.RemoteEntryNotFoundError:
            reason = "the hub does not have it"
        except Exception as error:  # whatever the network does
            raise EncoderError(_advice(repository, name, f"the download failed: {_short(error)}", instead)) from error
    raise EncoderError(_advice(repository, " or ".join(names), reason, instead))


def folder(
    repository: str,
    *,
    patterns: Sequence[str] = CONFIGS + TENSORS,
    needed: Sequence[str] = ("config.json",),
    instead: str = "",
    extra: str = "openclip",
) -> Path:
    """A folder with the files of a repository that match `patterns`, downloaded if need be.

    Args:
        repository: `owner/name` on the hub, or a local folder, which is taken as it is.
        needed: patterns of which each must have a file, or the copy here counts as unfinished.
        extra: of photodesk, that brings the hub's library to who asks.

    Raises:
        EncoderError: it is not here and cannot be fetched; says which file to put where.
    """
    hub = require("huggingface_hub", extra)
    candidates = [Path(repository).expanduser(), place(repository)]
    with contextlib.suppress(OSError, ValueError):  # not in the cache, or no name of the hub
        candidates.append(Path(hub.snapshot_download(repository, local_files_only=True)))
    for candidate in candidates:
        if candidate.is_dir() and all(any(candidate.glob(pattern)) for pattern in needed):
            return candidate
    if candidates[0].is_dir():
        lacks = [pattern for pattern in needed if not any(candidates[0].glob(pattern))]
        raise EncoderError(f"{repository} lacks {', '.join(lacks)}; put the model's own files there")
    wanted = ", ".join(needed)
    _check_reach(hub, repository, wanted, instead)
    try:
        return Path(hub.snapshot_download(repository, allow_patterns=list(patterns)))
    except Exception as error:  # whatever the network does
        raise EncoderError(_advice(repository, wanted, f"the download failed: {_short(error)}", instead)) from error


def check_no_code(*folders: Path) -> None:
    """Refuse a model that brings Python code of its own, before a library reads it: some ask on the terminal whether to
    run it.

    Args:
        folders: where its configurations lie (`*config.json`); `auto_map` anywhere in one of them names such code.

    Raises:
        EncoderError: one does.
    """
    for path in (path for folder in folders for path in sorted(folder.glob("*config.json"))):
        keys: set[str] = set()
        with contextlib.suppress(
            OSError, ValueError, RecursionError
        ):  # who reads it for its contents says what is wrong with it
            json.loads(read_text(path), object_hook=keys.update)
        if "auto_map" in keys:
            raise EncoderError(
                f"{path} brings code of its own (auto_map), which photodesk does not run; name a model without any"
            )


def _check_reach(hub: Any, repository: str, name: str, instead: str) -> None:
    if hub.constants.HF_HUB_OFFLINE:
        raise EncoderError(_advice(repository, name, "HF_HUB_OFFLINE forbids a download", instead))
    endpoint = hub.constants.ENDPOINT
    if trouble := unreachable(endpoint):
        raise EncoderError(_advice(repository, name, f"{endpoint} cannot be reached ({trouble})", instead))


@functools.lru_cache
def unreachable(address: str) -> str:
    """Why `address` does not answer within `PATIENCE` seconds; empty if it does.

    In a thread of its own, since looking a name up knows no time limit.
    """
    outcome: list[str] = []

    def knock() -> None:
        try:
            request = urllib.request.Request(address, method="HEAD")  # noqa: S310  the hub's own address
            with urllib.request.urlopen(request, timeout=PATIENCE):  # noqa: S310
                outcome.append("")
        except urllib.error.HTTPError:
            outcome.append("")  # an answer all the same
        except (OSError, ValueError) as error:
            outcome.append(_short(getattr(error, "reason", error)))

    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return outcome[0] if outcome else f"no answer in {PATIENCE:.0f} seconds"


def _short(error: Any) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _advice(repository: str, name: str, reason: str, instead: str) -> str:
    address = f"{os.environ.get('HF_ENDPOINT', 'https://huggingface.co')}/{repository}"
    return (
        f"{name} of {repository} is not on this machine and {reason}; put {name} from {address} into "
        f"{place(repository)}" + (f", or say {instead}" if instead else "")
    )
