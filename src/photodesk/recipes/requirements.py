"""What a recipe needs that this machine or the data lacks, all of it at once, and how to get each thing; nothing is
loaded to find out."""

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


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that is missing.

    Args:
        kind: "library", "model", "translator", "data" (another edition), "part", "truth", "pictures", "pairs",
            "pretraining".
        what: the thing, for people.
        how: how to get it.
        fetched: whether photodesk fetches it by itself, if the hub can be reached.
    """

    kind: str
    what: str
    how: str
    fetched: bool = False

    def __str__(self) -> str:
        return f"{self.what}: {self.how}"


def located(recipe: Recipe, folder: Path | None) -> Recipe:
    """The recipe with its models and its translator taken from `folder` where they lie there.

    A model lies in the folder OWNER--NAME, as the hub's cache spells it, in OWNER/NAME or in NAME; photodesk's own
    folder for files placed by hand is looked at as well.
    """
    names = tuple(_located_encoder(name, folder) for name in recipe.encoders.names)
    texts = recipe.texts
    if texts.translate.startswith("marian:"):
        name = texts.translate.removeprefix("marian:")
        if found := _folder_of(name, folder) or _folder_of(name, hf_hub.place(name).parent):
            texts = replace(texts, translate=f"marian:{found}")
    return replace(recipe, encoders=replace(recipe.encoders, names=names), texts=texts)


def _located_encoder(name: str, folder: Path | None) -> str:
    models = {model.name: model for model in MODELS}
    parts: list[str] = []
    moved = False
    for key, one in spec.parse(name).items():
        plain = f"{one.family}:{one.model}"
        known = one.path is None and one.family in ("openclip", "clip") and plain in models
        if known and (found := _folder_of(models[plain].files[0][0], folder)):
            one = replace(one, path=found) if one.family == "openclip" else replace(one, model=str(found))
            moved = True
        parts.append(f"{key}={one}" if key else str(one))
    return ", ".join(parts) if moved else name


def _folder_of(repository: str, folder: Path | None) -> Path | None:
    """Where the user keeps the files of a repository of the hub, if they do."""
    if folder is None:
        return None
    candidates = [folder / repository.replace("/", "--"), folder / repository, folder / repository.rpartition("/")[2]]
    return next((path for path in candidates if path.is_dir()), None)


def of_machine(recipe: Recipe, *, network: bool = False) -> Iterator[Need]:
    """Libraries, model weights and the translator that are not here.

    Args:
        recipe: as `located` gave it.
        network: a trained network is at hand, so none has to be trained.
    """
    extras = {"lang": bool(recipe.texts.detect), recipe.texts.clean.replace("2021", "clean"): bool(recipe.texts.clean)}
    extras |= {"translate": recipe.texts.translate.startswith("marian:"), "train": _descends(recipe) and not network}
    for extra, wanted in extras.items():
        lacking = [module for module in LIBRARIES.get(extra, ()) if wanted and importlib.util.find_spec(module) is None]
        if lacking:
            yield Need("library", f"{' and '.join(lacking)}", f'pip install "photodesk[{extra}]"')
    for name in recipe.encoders.names:
        yield from _of_encoder(name)
    if recipe.texts.translate.startswith("marian:"):
        yield from _of_marian(recipe.texts.translate.removeprefix("marian:"))


def _descends(recipe: Recipe) -> bool:
    """Whether the recipe's network is trained in torch; the closed form is not."""
    return recipe.network is not None and PRESETS[recipe.network.preset].epochs > 0


def _of_encoder(name: str) -> Iterator[Need]:
    models = {model.name: model for model in MODELS}
    for one in spec.parse(name).values():
        model = models.get(f"{one.family}:{one.model}" if one.model else one.family)
        if model is None:
            continue  # not in the table: loading it says what is wrong
        if lacking := model.lacks():
            yield Need("library", " and ".join(lacking), f'pip install "photodesk[{model.extra}]"')
        if one.path is not None:
            folder = one.path if one.path.is_dir() else one.path.parent
            if not one.path.exists() or not any(path.suffix in SUFFIXES for path in folder.glob("*")):
                yield Need(
                    "model",
                    f"a checkpoint of {one.family}:{one.model} in {one.path}",
                    f"put one there ({', '.join(SUFFIXES)})",
                )
        elif not model.is_here():
            repositories = " and ".join(dict.fromkeys(repository for repository, _ in model.files))
            places = " and ".join(dict.fromkeys(repository.replace("/", "--") for repository, _ in model.files))
            how = (
                f"{model.megabytes / 1000:.1f} GB, fetched from the hub by itself; without a network put the files of "
                f"{repositories} into "
                f"{places} of a folder and name it with --model-dir"
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
    if recipe.data.edition not in dataset.edition.split(" + "):
        yield Need("data", f"{recipe.data.edition}, and the data is {dataset.edition}", recipe.data.how)
    else:
        try:
            measured = candidates(recipe, dataset)
        except DataError as error:
            yield Need("part", str(error), recipe.data.how)
        else:
            yield from _of_parts(recipe, measured)


def of_pretraining(recipe: Recipe, pretrain: Dataset | None, *, network: bool = False) -> Iterator[Need]:
    """The data set to train on before, if the recipe names one, it is not at hand, and no trained network is."""
    if recipe.network and recipe.network.pretrain and not network:
        if pretrain is None:
            how = (
                "ask its authors (Tran et al., Transform and Tell, CVPR 2020) for it and name its folder with "
                "--pretrain"
            )
            yield Need("pretraining", f"{recipe.network.pretrain}, to train on before", how)
        elif recipe.network.pretrain not in pretrain.edition.split(" + "):
            yield Need(
                "pretraining",
                f"{recipe.network.pretrain}, and --pretrain is {pretrain.edition}",
                "name its folder with --pretrain",
            )


def _of_parts(recipe: Recipe, test: Dataset) -> Iterator[Need]:
    if not test.pairs:
        yield Need(
            "truth",
            "the right photos of the articles that are measured",
            "put the organisers' truth file into the folder",
        )
    here = {photo.id for photo in test.photos}
    wanted = {item.photo for item in test.listed} | {pair.photo for pair in test.pairs}
    if lacking := len(wanted - here):
        how = "run: photodesk fetch DATA" if any(item.url for item in test.listed) else recipe.data.how
        yield Need("pictures", f"{lacking:,} of {len(wanted):,} pictures that are ranked", how)
    if recipe.claim.pairs and recipe.claim.pairs > len(test.pairs):
        yield Need(
            "pairs", f"{recipe.claim.pairs:,} pairs to measure, and the data has {len(test.pairs):,}", recipe.data.how
        )


def stand_in(
    recipe: Recipe, encoder: str, dataset: Dataset, *, pretrain: bool, network: bool, folder: Path | None = None
) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe with another encoder, on whatever data there is, and in what it differs from the recipe; one sentence
    each.

    Another encoder is a stand-in, so what cannot be had for it is left out instead of asked for: the translation, the
    set to train on before, the recipe's own data.

    Args:
        recipe: the original.
        encoder: to run it on.
        dataset: the data at hand.
        pretrain: whether the data set to train on before is at hand.
        network: whether a trained network is at hand.
        folder: where the user keeps models.
    """
    said: list[str] = []
    if (encoder,) != recipe.encoders.names:
        said.append(f"the encoder is {encoder}, not {' + '.join(recipe.encoders.names)}")
        several = len(recipe.texts.words) > 1
        models = (
            Encoders((encoder,), (), recipe.encoders.normalise, recipe.encoders.learn)
            if several
            else Encoders((encoder,))
        )
        recipe = replace(recipe, encoders=models)
    recipe = located(recipe, folder)
    if any(need.kind == "translator" for need in of_machine(recipe)):
        multilingual = any(model.name == encoder and model.languages != "English" for model in MODELS)
        reads = f"{encoder} reads the originals" + ("" if multilingual else ", whether or not it knows their language")
        said.append(f"the translation is left out, as no translator is on this machine: {reads}")
        recipe = replace(recipe, texts=replace(recipe.texts, translate="", detect=(), keep_names=False))
    if recipe.network and recipe.network.pretrain and not pretrain and not network:
        said.append(f"the network is not trained on {recipe.network.pretrain} before, which is not at hand")
        recipe = replace(recipe, network=replace(recipe.network, pretrain=""))
    size = recipe.data.test.removeprefix("grouped:")
    if recipe.data.edition not in dataset.edition.split(" + "):
        recipe, more = _on_other_data(recipe, dataset)
        said += more
    elif size.isdigit() and int(size) > len(dataset.pairs) // 2:
        said.append(f"a fifth of the data is measured, since it has {len(dataset.pairs):,} pairs only")
        recipe = replace(recipe, data=replace(recipe.data, test="grouped:0.2"))
    return recipe, tuple(said)


def _on_other_data(recipe: Recipe, dataset: Dataset) -> tuple[Recipe, list[str]]:
    """The recipe on data of another edition, by the fields that it has; a fifth of it is measured where the recipe
    needs a rest."""
    said = [f"the data is {dataset.edition}, not {recipe.data.edition}"]
    fields = tuple(name for name in recipe.texts.fields if any(getattr(article, name) for article in dataset.articles))
    if fields != recipe.texts.fields:
        lacking = ", ".join(name for name in recipe.texts.fields if name not in fields)
        fields = fields or ("title",)
        said.append(f"the data has no {lacking}, so {'+'.join(fields)} is read")
        recipe = replace(recipe, texts=replace(recipe.texts, fields=fields))
    banked = recipe.revision is not None and recipe.revision.bank == "rest"
    test = "grouped:0.2" if recipe.data.test != "all" or recipe.network is not None or banked else "all"
    if test != "all":
        said.append(
            "it has no parts of its own, so a fifth of it is measured, in groups that share no title, URL or "
            "picture with the rest"
        )
    network = replace(recipe.network, train=()) if recipe.network else None
    data = replace(recipe.data, subset="", test=test, seed=0)
    return replace(recipe, data=data, network=network), said
