"""What a recipe needs that this machine or the data lacks, and how to get it; nothing is loaded to find out."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from photodesk.encoders import hf_hub, spec
from photodesk.encoders.catalogue import MODELS
from photodesk.encoders.checkpoint import SUFFIXES
from photodesk.errors import DataError
from photodesk.recipes.schema import Encoders, Recipe
from photodesk.recipes.split import candidates
from photodesk.training.config import PRESETS
from photodesk.types import Dataset

LIBRARIES = {
    "lang": ("lingua",),
    "clean": ("wordfreq", "spellchecker"),
    "ekphrasis": ("ekphrasis", "wordfreq", "spellchecker"),
    "translate": ("torch", "transformers", "sentencepiece"),
    "train": ("torch",),
}
MARIAN = ("config.json", "source.spm", "target.spm", "vocab.json")
MARIAN_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_MODELS = {model.name: model for model in MODELS}


@dataclass(frozen=True, slots=True)
class Need:
    """A missing requirement.

    Args:
        kind: "library", "model", "translator", "data" (another edition), "part", "truth", "pictures", "pairs",
            "pretraining".
        what: is missing.
        how: to get it.
        fetched: whether photodesk downloads it from the hub.
    """

    kind: str
    what: str
    how: str
    fetched: bool = False

    def __str__(self) -> str:
        return f"{self.what}: {self.how}"


def located(recipe: Recipe, folder: Path | None) -> Recipe:
    """The recipe with its models and its translator taken from `folder` if they are in it.

    A model is in the folder OWNER--NAME, as in the hub's cache, in OWNER/NAME or in NAME. Translators are also looked
    up in photodesk's own folder for files placed by hand.
    """
    names = tuple(_located_encoder(name, folder) for name in recipe.encoders.names)
    texts = recipe.texts
    if (name := _marian(recipe)) and (found := _folder_of(name, folder) or _folder_of(name, hf_hub.place(name).parent)):
        texts = replace(texts, translate=f"marian:{found}")
    return replace(recipe, encoders=replace(recipe.encoders, names=names), texts=texts)


def _located_encoder(name: str, folder: Path | None) -> str:
    parts: list[str] = []
    moved = False
    for key, one in spec.parse(name).items():
        model = _MODELS.get(f"{one.family}:{one.model}")
        known = model if one.path is None and one.family in ("openclip", "clip") else None
        if known and (found := _folder_of(known.files[0][0], folder)):
            one = replace(one, path=found) if one.family == "openclip" else replace(one, model=str(found))
            moved = True
        parts.append(f"{key}={one}" if key else str(one))
    return ", ".join(parts) if moved else name


def _folder_of(repository: str, folder: Path | None) -> Path | None:
    """Where the user keeps the files of a repository of the hub, if anywhere."""
    if folder is None:
        return None
    spellings = (repository.replace("/", "--"), repository, repository.rpartition("/")[2])
    return next((path for spelling in spellings if (path := folder / spelling).is_dir()), None)


def _marian(recipe: Recipe) -> str:
    """The Marian model that translates the recipe's texts, or nothing."""
    kind, _, name = recipe.texts.translate.partition(":")
    return name if kind == "marian" else ""


def of_machine(recipe: Recipe, *, network: bool = False) -> Iterator[Need]:
    """Libraries, model weights and the translator that are not on this machine.

    Args:
        recipe: from `located`.
        network: a trained network is given, so none is trained.
    """
    # the closed form needs no torch
    descent = recipe.network is not None and PRESETS[recipe.network.preset].epochs > 0
    extras = {
        "lang": bool(recipe.texts.detect),
        recipe.texts.clean.replace("2021", "clean"): True,
        "translate": bool(_marian(recipe)),
        "train": descent and not network,
    }
    for extra, wanted in extras.items():
        lacking = [module for module in LIBRARIES.get(extra, ()) if wanted and importlib.util.find_spec(module) is None]
        if lacking:
            yield Need("library", " and ".join(lacking), f'pip install "photodesk[{extra}]"')
    for name in recipe.encoders.names:
        yield from _of_encoder(name)
    if name := _marian(recipe):
        yield from _of_marian(name)


def _of_encoder(name: str) -> Iterator[Need]:
    for one in spec.parse(name).values():
        model = _MODELS.get(f"{one.family}:{one.model}" if one.model else one.family)
        if model is None:
            continue  # loading it says what is wrong
        if lacking := model.lacks():
            yield Need("library", " and ".join(lacking), f'pip install "photodesk[{model.extra}]"')
        if one.path is not None:
            folder = one.path if one.path.is_dir() else one.path.parent
            if not one.path.exists() or not any(path.suffix in SUFFIXES for path in folder.glob("*")):
                what = f"a checkpoint of {one.family}:{one.model} in {one.path}"
                yield Need("model", what, f"put one there ({', '.join(SUFFIXES)})")
        elif not model.is_here():
            repositories = " and ".join(dict.fromkeys(repository for repository, _ in model.files))
            how = (
                f"{model.megabytes / 1000:.1f} GB, fetched from the hub by itself; without a network put the files of "
                f"{repositories} into {repositories.replace('/', '--')} of a folder and name it with --model-dir"
            )
            yield Need("model", f"the weights of {model.name}", how, fetched=True)


def _of_marian(name: str) -> Iterator[Need]:
    path = Path(name).expanduser()
    if path.is_dir():
        wanted = [file for file in MARIAN if not (path / file).is_file()]
        if not any(path.glob("*.safetensors")) and not any(path.glob("*.bin")):
            wanted.append(" or ".join(MARIAN_WEIGHTS))
        if wanted:
            yield Need("translator", f"{', '.join(wanted)} in {path}", "copy them from the model's own folder")
    elif hf_hub.find(name, ("source.spm",)) is None or hf_hub.find(name, MARIAN_WEIGHTS) is None:
        how = (
            f"run: hf download {name}; or put its files into {name.replace('/', '--')} of a folder and name it with "
            "--model-dir"
        )
        yield Need("translator", f"the translation model {name}, 0.3 GB", how)


def of_data(recipe: Recipe, dataset: Dataset) -> Iterator[Need]:
    """What the data lacks: the edition, the part, its truth, its pictures."""
    if not _has(dataset, recipe.data.edition):
        yield Need("data", f"{recipe.data.edition}, and the data is {dataset.edition}", recipe.data.how)
    else:
        try:
            measured = candidates(recipe, dataset)
        except DataError as error:
            yield Need("part", str(error), recipe.data.how)
        else:
            yield from _of_parts(recipe, measured)


def _has(dataset: Dataset, edition: str) -> bool:
    return edition in dataset.edition.split(" + ")


def of_pretraining(recipe: Recipe, pretrain: Dataset | None, *, network: bool = False) -> Iterator[Need]:
    """The data set to pre-train on, if the recipe names one, and neither it nor a trained network is given."""
    wanted = recipe.network.pretrain if recipe.network and not network else ""
    if wanted and pretrain is None:
        how = "ask its authors (Tran et al., Transform and Tell, CVPR 2020) for it and name its folder with --pretrain"
        yield Need("pretraining", f"{wanted}, to train on before", how)
    elif wanted and pretrain and not _has(pretrain, wanted):
        what = f"{wanted}, and --pretrain is {pretrain.edition}"
        yield Need("pretraining", what, "name its folder with --pretrain")


def _of_parts(recipe: Recipe, test: Dataset) -> Iterator[Need]:
    if not test.pairs:
        how = "put the organisers' truth file into the folder"
        yield Need("truth", "the right photos of the articles that are measured", how)
    wanted = {item.photo for item in test.listed} | {pair.photo for pair in test.pairs}
    if lacking := len(wanted - {photo.id for photo in test.photos}):
        how = "run: photodesk fetch DATA" if any(item.url for item in test.listed) else recipe.data.how
        yield Need("pictures", f"{lacking:,} of {len(wanted):,} pictures that are ranked", how)
    if recipe.claim.pairs > len(test.pairs):
        what = f"{recipe.claim.pairs:,} pairs to measure, and the data has {len(test.pairs):,}"
        yield Need("pairs", what, recipe.data.how)


def stand_in(
    recipe: Recipe, encoder: str, dataset: Dataset, *, pretrain: bool, network: bool, folder: Path | None = None
) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe with another encoder, on the data that is given, and its deviations from the recipe, a sentence each.

    Another encoder is a substitute, so what is missing is left out instead of required: the translation, pre-training,
    the recipe's own data.

    Args:
        recipe: the original.
        encoder: to run it on.
        dataset: to run it on.
        pretrain: whether the data set to pre-train on is given.
        network: whether a trained network is given.
        folder: where the user keeps models.
    """
    deviations: list[str] = []
    if (encoder,) != recipe.encoders.names:
        deviations.append(f"the encoder is {encoder}, not {' + '.join(recipe.encoders.names)}")
        fused = len(recipe.texts.words) > 1
        models = replace(recipe.encoders, names=(encoder,), weights=()) if fused else Encoders((encoder,))
        recipe = replace(recipe, encoders=models)
    recipe = located(recipe, folder)
    if any(need.kind == "translator" for need in of_machine(recipe)):
        multilingual = encoder in _MODELS and _MODELS[encoder].languages != "English"
        reads = f"{encoder} reads the originals" + ("" if multilingual else ", whether or not it knows their language")
        deviations.append(f"the translation is left out, as no translator is on this machine: {reads}")
        recipe = replace(recipe, texts=replace(recipe.texts, translate="", detect=(), keep_names=False))
    if recipe.network and recipe.network.pretrain and not pretrain and not network:
        deviations.append(f"the network is not trained on {recipe.network.pretrain} before, which is not at hand")
        recipe = replace(recipe, network=replace(recipe.network, pretrain=""))
    size = recipe.data.test.removeprefix("grouped:")
    if not _has(dataset, recipe.data.edition):
        recipe, more = _on_other_data(recipe, dataset)
        deviations += more
    elif size.isdigit() and int(size) > len(dataset.pairs) // 2:
        deviations.append(f"a fifth of the data is measured, since it has {len(dataset.pairs):,} pairs only")
        recipe = replace(recipe, data=replace(recipe.data, test="grouped:0.2"))
    return recipe, tuple(deviations)


def _on_other_data(recipe: Recipe, dataset: Dataset) -> tuple[Recipe, list[str]]:
    """The recipe with the fields of data of another edition; a fifth of it is measured if the recipe needs a rest."""
    deviations = [f"the data is {dataset.edition}, not {recipe.data.edition}"]
    fields = tuple(name for name in recipe.texts.fields if any(getattr(article, name) for article in dataset.articles))
    if fields != recipe.texts.fields:
        lacking = ", ".join(name for name in recipe.texts.fields if name not in fields)
        fields = fields or ("title",)
        deviations.append(f"the data has no {lacking}, so {'+'.join(fields)} is read")
        recipe = replace(recipe, texts=replace(recipe.texts, fields=fields))
    banked = recipe.revision is not None and recipe.revision.bank == "rest"
    test = "grouped:0.2" if recipe.data.test != "all" or recipe.network is not None or banked else "all"
    if test != "all":
        deviations.append(
            "it has no parts of its own, so a fifth of it is measured, in groups that share no title, URL or "
            "picture with the rest"
        )
    network = recipe.network and replace(recipe.network, train=())
    data = replace(recipe.data, subset="", test=test, seed=0)
    return replace(recipe, data=data, network=network), deviations
