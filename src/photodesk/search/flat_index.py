"""An exact index: unit rows in one memory-mapped file, scanned by a matrix product.

The folder holds `index.json` (what made it, and which files belong to it), `rows-….npy` ((m, d) float32),
`photos-….jsonl` (id and path of each row) and perhaps `numbers-….npz` (the hubness offset of each row). The JSON is
replaced last, so a kill leaves the old index or the new one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from photodesk.encoders import registry
from photodesk.encoders.base import Encoder
from photodesk.errors import DataError, StoreError, UsageError
from photodesk.features import pipeline, ray_cluster, sources
from photodesk.features.embed import embed_articles, photo_rows, prepared, text_rows
from photodesk.features.shards import Shards
from photodesk.features.store import Store
from photodesk.files import as_store_error, digest, read_text, replacing
from photodesk.ranking import dual_softmax
from photodesk.ranking.revisions import Revision
from photodesk.ranking.similarity import best_of
from photodesk.text.preparation import Preparation, parse
from photodesk.types import Article, Embeddings, Fault, FloatArray, Hit, Progress, silent

FORMAT = "photodesk-flat/1"


class FlatIndex:
    """An open index; make one with `create` or `open`.

    Attributes:
        folder: where it lives.
        embeddings: the rows, sorted by photo id.
        paths: photo id → file, or URL as a string.
        encoder: name of the encoder, as `registry.load` reads it.
        numbers: where the numbers of a revision are kept, if there are any. The name changes with the rows: numbers
            never outlive them.
    """

    def __init__(
        self, folder: Path, embeddings: Embeddings, paths: dict[str, Path | str], encoder: str, numbers: Path
    ) -> None:
        self.folder, self.embeddings, self.paths, self.encoder, self.numbers = (
            folder,
            embeddings,
            paths,
            encoder,
            numbers,
        )

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
        check_folder(folder)
        order = sorted(range(len(embeddings)), key=lambda i: embeddings.ids[i])
        rows = np.ascontiguousarray(embeddings.rows[order])
        lines = [_line({"id": embeddings.ids[i], "path": _place(paths[i])}) for i in order]
        listing = "\n".join(lines) + "\n"
        tag = _tag(listing, rows)
        about = {
            "format": FORMAT,
            "encoder": encoder,
            "fingerprint": embeddings.encoder,
            "photos": len(order),
            "dim": embeddings.dim,
            "files": tag,
        }
        with as_store_error(f"cannot write the index {folder}", "make room or name another folder"):
            with replacing(folder / f"rows-{tag}.npy", "wb") as stream:
                np.save(stream, rows)
            with replacing(folder / f"photos-{tag}.jsonl") as text:
                text.write(listing)
            with replacing(folder / "index.json") as text:
                text.write(json.dumps(about | {"sum": _sum(about)}, indent=1) + "\n")
            for old in [*folder.glob("rows-*.npy"), *folder.glob("photos-*.jsonl"), *folder.glob("numbers-*")]:
                if tag not in old.name:
                    old.unlink()
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> FlatIndex:
        """Open an index; its rows stay on the disk, but are read once and compared with the name that their content
        gave their file.

        Raises:
            StoreError: there is none, or it is damaged.
        """
        try:
            about = json.loads(read_text(folder / "index.json"))
            if about["format"] != FORMAT:
                raise StoreError(f"{folder} holds an index of format {about['format']}, not {FORMAT}; make it again")
            if "sum" in about and about.pop("sum") != _sum(about):  # an older photodesk wrote none
                raise StoreError(f"{folder / 'index.json'} is damaged: it is not what was written; make it again")
            listing = read_text(folder / f"photos-{about['files']}.jsonl")
            listed = [json.loads(line) for line in listing.splitlines()]
            rows = np.load(folder / f"rows-{about['files']}.npy", mmap_mode="r", allow_pickle=False)
            if rows.shape != (about["photos"], about["dim"]) or len(listed) != about["photos"]:
                raise StoreError(f"{folder} is damaged: it should hold {about['photos']} photos; make it again")
            if rows.dtype != np.dtype("<f4") or not rows.flags.c_contiguous or _tag(listing, rows) != about["files"]:
                raise StoreError(f"{folder} is damaged: rows or photos are not what was written; make it again")
            embeddings = Embeddings(tuple(photo["id"] for photo in listed), rows, about["fingerprint"])
            paths = {photo["id"]: photo["path"] if "://" in photo["path"] else Path(photo["path"]) for photo in listed}
            return cls(folder, embeddings, paths, about["encoder"], folder / f"numbers-{about['files']}.npz")
        except FileNotFoundError as error:
            if (folder / "index.json").exists():
                raise StoreError(
                    f"{folder} is damaged: {Path(error.filename).name} is missing; make it again"
                ) from None
            raise StoreError(f"{folder} holds no index; make one with: photodesk index PHOTOS -o {folder}") from None
        except StoreError:
            raise
        except Exception as error:  # numpy's reader of headers knows a dozen kinds, such as tokenize.TokenError
            raise StoreError(
                f"{folder} is damaged ({error}); make it again with: photodesk index PHOTOS -o {folder}"
            ) from None

    def search(
        self, query: FloatArray, top: int, *, change: Callable[[FloatArray], FloatArray] | None = None
    ) -> tuple[Hit, ...]:
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
        return tuple(
            Hit(self.embeddings.ids[j], score) for j, score in zip(at[0].tolist(), best[0].tolist(), strict=True)
        )


def _sum(about: dict[str, object]) -> str:
    """Digest of what `index.json` says."""
    return digest(json.dumps(about, sort_keys=True).encode()).hex()


def _tag(listing: str, rows: FloatArray) -> str:
    """The name of the files of an index: a digest of what they hold."""
    content = hashlib.sha256()
    for start in range(0, len(rows), 4096):
        content.update(rows[start : start + 4096].tobytes())
    return digest(listing.encode() + content.digest()[:16]).hex()


def _sealed(text: str) -> str:
    """A line with the digest of a text before the text."""
    return f"sum {digest(text.encode()).hex()}\n{text}"


def _prepared_by(path: Path) -> str:
    """How the bank of an index was prepared; empty if the index does not say.

    Raises:
        StoreError: the file is damaged.
    """
    if not path.exists():
        return ""
    try:
        said = read_text(path)
        text = said.partition("\n")[2] if said.startswith("sum ") else said  # an older photodesk wrote no sum
        if text and (text == said or _sealed(text) == said):
            parse(text)
            return text
    except (OSError, ValueError, UsageError):
        pass
    raise StoreError(f"{path} is damaged; take the numbers of the bank again")


def check_folder(folder: Path) -> None:
    """Whether an index may be written there: in a new or empty folder, or over an earlier index.

    Raises:
        StoreError: it holds something else, or is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file; name a new folder for the index")
    if folder.exists() and not (folder / "index.json").exists() and any(folder.iterdir()):
        raise StoreError(f"{folder} is not empty and holds no index; name a new folder")


def _line(photo: dict[str, str]) -> str:
    """One photo as JSON; bytes of a path that are not UTF-8 are escaped, and come back as they are."""
    text = json.dumps(photo, ensure_ascii=False)
    return text if text.encode(errors="ignore").decode() == text else json.dumps(photo)


def _place(path: Path | str) -> str:
    return path if isinstance(path, str) else str(path.resolve())


def build_index(
    photos: Path | str,
    index: Path | str,
    encoder: Encoder | None = None,
    *,
    store: Store | None = None,
    ray: str = "",
    exclude: Sequence[str] = (),
    progress: Progress = silent,
) -> tuple[FlatIndex, tuple[Fault, ...]]:
    """Encode every picture of a source and write the index folder `index`, replacing an earlier one.

    Args:
        photos: a folder, or what else `sources.find` takes: a list of paths, tars, Parquet files, URLs.
        index: folder of the index.
        encoder: None is the built-in model.
        store: where features are kept; None is the user's cache.
        ray: address of a Ray cluster that encodes, as `cluster.encode` takes it; empty encodes here.
        exclude: patterns of what to leave out, as `sources.find` takes them.
        progress: called with ("photos", done, of).

    Raises:
        StoreError: the folder of the index holds something else, such as the pictures.
        DataError: there is no source, or no picture in it can be opened.
        UsageError: the encoder is for `train` only (`Encoder.joint`).
    """
    check_folder(Path(index))
    encoder, store = (encoder or registry.load()).joint(), store or Store()
    units, faults = sources.find(photos, exclude=exclude)

    def results(shards: Shards) -> Iterator[tuple[int, pipeline.Batch]]:
        if ray:
            yield from ray_cluster.encode(units, encoder.name, encoder.photos.fingerprint, shards.keys(), ray)
        else:
            pictures = chain.from_iterable(unit.pictures() for unit in units)
            yield from ((0, batch) for batch in pipeline.encode(pictures, encoder.photos, shards.has))

    made = store.collect(encoder.photos, results, of=sources.count(units), progress=progress)
    if not len(made.photos):
        raise DataError(
            f"{photos} holds no picture that can be opened"
            + (f"; the first fault is: {made.faults[0]}" if made.faults else "")
        )
    rows = np.empty((len(made.photos), encoder.network.dim if encoder.network else encoder.photos.dim), np.float32)
    for start in range(0, len(rows), 4096):
        rows[start : start + 4096] = photo_rows(made.rows[start : start + 4096], encoder)
    embeddings = Embeddings(tuple(made.photos), rows, encoder.fingerprint)
    return FlatIndex.create(Path(index), embeddings, made.places, encoder=encoder.name), (*faults, *made.faults)


def revise_index(
    index: FlatIndex,
    bank: Sequence[Article],
    revision: Revision,
    encoder: Encoder | None = None,
    *,
    preparation: Preparation | None = None,
    store: Store | None = None,
    progress: Progress = silent,
) -> tuple[dual_softmax.Offsets, tuple[Fault, ...]]:
    """Take one number per photo from a bank of articles and keep them in the index: `Searcher` then ranks every article
    by revised scores.

    Args:
        index: an open index; numbers that it held before are replaced.
        bank: articles that stand for those to come.
        revision: how cosines are revised.
        encoder: as for `Searcher`; None loads it by the name that the index holds.
        preparation: how the bank becomes texts; None reads titles as they are.
        store: where features of the bank are kept; None is the user's cache.
        progress: called with ("bank", done, of).

    Returns:
        the numbers; which articles of the bank have no text.

    Raises:
        StoreError: the index was made by another encoder.
        UsageError: the method takes no bank, or no article of it has text.
    """
    encoder = Searcher(index, encoder).encoder
    photos = Embeddings(index.embeddings.ids, index.embeddings.rows, encoder.fingerprint)
    others, faults = embed_articles(
        bank,
        encoder,
        store or Store(),
        preparation=preparation,
        stage="bank",
        progress=progress,
    )
    numbers = dual_softmax.offsets(others, photos, revision)
    index.numbers.unlink(missing_ok=True)  # a kill in between leaves none, not old ones beside another preparation
    with replacing(index.preparation) as stream:
        stream.write(_sealed(str(preparation or Preparation())))
    numbers.save(index.numbers)
    return numbers, faults


class Searcher:
    """One article at a time against an index of photos, with the same mathematics as `rank`.

    Where the index holds numbers of a revision (`revise_index`), scores are revised like those of a `rank` with the
    same bank.

    Args:
        index: an open index.
        encoder: the one that made it, or another text tower in the same space (`Encoder.reads`); None loads it by the
            name that the index holds.

    Attributes:
        numbers: the hubness offsets of the index's revision; None without one.

    Raises:
        StoreError: the index was made by another encoder, or another version of it.
        UsageError: the encoder is for `train` only (`Encoder.joint`).
    """

    def __init__(self, index: FlatIndex, encoder: Encoder | None = None) -> None:
        self.index = index
        self.encoder = (encoder or registry.load(index.encoder)).joint()
        advice = f"make the index again with: photodesk index PHOTOS -o {index.folder}"
        self.encoder.check(index.embeddings.encoder, index.encoder, index.folder, advice)
        self.numbers = dual_softmax.Offsets.load(index.numbers) if index.numbers.exists() else None

    @classmethod
    def open(cls, folder: Path | str, encoder: Encoder | None = None) -> Searcher:
        """A searcher on the index in `folder`."""
        return cls(FlatIndex.open(Path(folder)), encoder)

    def search(
        self, article: Article | str, *, top: int = 10, preparation: Preparation | None = None, revised: bool = True
    ) -> tuple[Hit, ...]:
        """The best photos for one article, or for a headline; best first, ties by photo id.

        Args:
            article: one article, or its headline.
            top: how many hits.
            preparation: how the article becomes a text; None is as the bank of a revision was prepared, else titles as
                they are.
            revised: False ranks by cosine even where the index holds numbers of a revision.

        Raises:
            UsageError: there is no text to search for.
            StoreError: the numbers were taken from texts by another encoder, or from texts that were prepared in
            another way.
        """
        if isinstance(article, str):
            article = Article("query", article)
        bank = _prepared_by(self.index.preparation) if revised and self.numbers else ""
        preparation = preparation or (parse(bank) if bank else Preparation())
        if bank and str(preparation) != bank:
            raise StoreError(
                f"{self.index.folder} holds numbers of a bank prepared by {bank}, and this article by {preparation}; "
                "prepare it alike, take the numbers again, or search by cosine"
            )
        texts, _ = prepared([article], preparation, self.encoder.texts)
        if not any(texts[0]):
            raise UsageError("there is nothing to search for: the text is empty")
        rows = text_rows(self.encoder.texts.read(texts), self.encoder)
        if not revised or self.numbers is None:
            return self.index.search(rows[0], top)
        if self.numbers.encoder != self.encoder.fingerprint:
            raise StoreError(
                f"{self.index.folder} holds numbers of {self.numbers.revision} from texts that another encoder read "
                f"({self.numbers.encoder}), and this is {self.encoder.fingerprint}; take them again with this one, or "
                "search by cosine"
            )
        return self.index.search(rows[0], top, change=self.numbers.revised)
