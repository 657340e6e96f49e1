"""An exact index: unit rows in one memory-mapped file, scanned by a matrix product.

The folder holds `index.json` (what made it, and which files belong to it), `rows-….npy` ((m, d) float32), `photos-….jsonl` (id and path of
each row) and perhaps `numbers-….npz` (what a revision takes off each row). The JSON is replaced last, so a kill leaves the old index or
the new one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from photodesk.errors import StoreError
from photodesk.files import digest, replacing
from photodesk.ranking.similarity import best_of
from photodesk.types import Embeddings, FloatArray, Hit

FORMAT = "photodesk-flat/1"


class FlatIndex:
    """An open index; make one with `create` or `open`.

    Attributes:
        folder: where it lives.
        embeddings: the rows, sorted by photo id.
        paths: photo id → file, or URL as a string.
        encoder: name of the encoder, as `encoders.load` reads it.
        numbers: where the numbers of a revision are kept, if there are any. The name changes with the rows: numbers never outlive them.
    """

    def __init__(self, folder: Path, embeddings: Embeddings, paths: dict[str, Path | str], encoder: str, numbers: Path) -> None:
        self.folder, self.embeddings, self.paths, self.encoder, self.numbers = folder, embeddings, paths, encoder, numbers

    @property
    def preparation(self) -> Path:
        """File that says how the bank of `numbers` was prepared, as `text.parse` reads it."""
        return self.numbers.with_suffix(".txt")

    def __len__(self) -> int:
        return len(self.embeddings)

    @classmethod
    def create(cls, folder: Path, embeddings: Embeddings, paths: Sequence[Path | str], *, encoder: str) -> FlatIndex:
        """Write an index of m rows and the m files that they stand for; an earlier index in the folder is replaced.

        Raises:
            StoreError: the folder holds something else, or cannot be written.
        """
        if folder.exists() and not (folder / "index.json").exists() and any(folder.iterdir()):
            raise StoreError(f"{folder} is not empty and holds no index; name a new folder")
        order = sorted(range(len(embeddings)), key=lambda i: embeddings.ids[i])
        rows = np.ascontiguousarray(embeddings.rows[order])
        lines = [json.dumps({"id": embeddings.ids[i], "path": _place(paths[i])}, ensure_ascii=False) for i in order]
        listing = "\n".join(lines) + "\n"
        tag = digest(listing.encode() + digest(rows.tobytes())).hex()
        about = {
            "format": FORMAT,
            "encoder": encoder,
            "fingerprint": embeddings.encoder,
            "photos": len(order),
            "dim": embeddings.dim,
            "files": tag,
        }
        try:
            with replacing(folder / f"rows-{tag}.npy", "wb") as stream:
                np.save(stream, rows)
            with replacing(folder / f"photos-{tag}.jsonl") as text:
                text.write(listing)
            with replacing(folder / "index.json") as text:
                text.write(json.dumps(about, indent=1) + "\n")
            for old in [*folder.glob("rows-*.npy"), *folder.glob("photos-*.jsonl"), *folder.glob("numbers-*")]:
                if tag not in old.name:
                    old.unlink()
        except OSError as error:
            raise StoreError(f"cannot write the index {folder}: {error.strerror}") from None
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> FlatIndex:
        """Open an index without reading its rows.

        Raises:
            StoreError: there is none, or it is damaged.
        """
        try:
            about = json.loads((folder / "index.json").read_text("utf-8"))
            if about["format"] != FORMAT:
                raise StoreError(f"{folder} holds an index of format {about['format']}, not {FORMAT}; make it again")
            listed = [json.loads(line) for line in (folder / f"photos-{about['files']}.jsonl").read_text("utf-8").splitlines()]
            rows = np.load(folder / f"rows-{about['files']}.npy", mmap_mode="r", allow_pickle=False)
            if rows.shape != (about["photos"], about["dim"]) or len(listed) != about["photos"]:
                raise StoreError(f"{folder} is damaged: it should hold {about['photos']} photos; make it again")
            embeddings = Embeddings(tuple(photo["id"] for photo in listed), rows, about["fingerprint"])
            paths = {photo["id"]: photo["path"] if "://" in photo["path"] else Path(photo["path"]) for photo in listed}
            return cls(folder, embeddings, paths, about["encoder"], folder / f"numbers-{about['files']}.npz")
        except FileNotFoundError as error:
            if (folder / "index.json").exists():
                raise StoreError(f"{folder} is damaged: {Path(error.filename).name} is missing; make it again") from None
            raise StoreError(f"{folder} holds no index; make one with: photodesk index PHOTOS -o {folder}") from None
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise StoreError(f"{folder} is damaged ({error}); make it again with: photodesk index PHOTOS -o {folder}") from None

    def search(self, query: FloatArray, top: int, *, change: Callable[[FloatArray], FloatArray] | None = None) -> tuple[Hit, ...]:
        """The `top` rows of highest cosine with a (d,) unit query, best first, ties by photo id.

        Args:
            query: what is looked for.
            top: how many hits.
            change: makes other scores, such as `Numbers.revised`, of the (1, m) cosines.
        """
        scores = (self.embeddings.rows @ query)[None]
        if change is not None:
            scores = change(scores)
        best, at = best_of(scores, np.arange(len(self))[None], min(top, len(self)))
        return tuple(Hit(self.embeddings.ids[j], score) for j, score in zip(at[0].tolist(), best[0].tolist(), strict=True))


def _place(path: Path | str) -> str:
    return path if isinstance(path, str) else str(path.resolve())
