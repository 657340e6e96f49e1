"""Runs a recipe: its part of the data, its texts, models, network, fusion and revision; compares with the paper.

The chain is that of `search.rank`, read from a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from photodesk.encoders import registry
from photodesk.encoders.base import Encoder
from photodesk.encoders.txv import Network
from photodesk.errors import DataError, EncoderError
from photodesk.evaluation.evaluate import Report, digits, evaluate
from photodesk.evaluation.metrics import DEFAULT, parse_all
from photodesk.evaluation.tables import Table
from photodesk.features.retrieval import Chain
from photodesk.features.store import Store
from photodesk.ranking import fusion
from photodesk.ranking.revisions import cosine
from photodesk.recipes.schema import Net, Recipe
from photodesk.recipes.split import Parts, divide
from photodesk.text.preparation import Preparation
from photodesk.types import Dataset, Fault, Progress, Run, silent


@dataclass(frozen=True)
class Outcome:
    """A recipe that was run.

    Args:
        recipe: as it was run.
        run: the rankings.
        report: their measures.
        faults: of single articles and photos.
    """

    recipe: Recipe
    run: Run
    report: Report
    faults: tuple[Fault, ...] = ()


@dataclass
class Runner:
    """Runs recipes on one data set; features are kept in the store, trained networks here.

    Args:
        dataset: all of the data.
        store: where features are kept.
        pretrain: the data set to pre-train on, for recipes that name one.
        network: a trained network, instead of training one.
        progress: as in `search.rank`.
    """

    dataset: Dataset
    store: Store
    pretrain: Dataset | None = None
    network: Network | None = None
    progress: Progress = silent
    _trained: dict[tuple[object, ...], Network] = field(default_factory=dict)
    _parts: dict[tuple[object, ...], Parts] = field(default_factory=dict)
    _encoders: dict[str, Encoder] = field(default_factory=dict)

    def parts(self, recipe: Recipe) -> Parts:
        """As `divide`, cached for recipes with the same split."""
        key = (recipe.data, recipe.network.train if recipe.network else ())
        if key not in self._parts:
            self._parts[key] = divide(recipe, self.dataset)
        return self._parts[key]

    def run(self, recipe: Recipe, name: str = "") -> Outcome:
        """Run a recipe and measure it.

        Args:
            recipe: to run.
            name: of the run; the recipe's if empty.

        Raises:
            DataError: the data has no such part, no truth for it, or nothing that can be ranked.
            EncoderError: a network does not fit the encoder's towers.
        """
        parts = self.parts(recipe)
        if not parts.test.pairs:
            raise DataError(
                f"{recipe.name} cannot be measured: no article of {recipe.data.subset or 'the data'} has a known right "
                "photo"
            )
        chain = Chain(
            [self._encoder(recipe, one) for one in recipe.encoders.names],
            recipe.texts.preparations,
            self.store,
            recipe.encoders.normalisation,
            self.progress,
        )
        weights, faults = _weights(recipe, chain, parts.rest)
        run, wrong = chain.run(
            parts.test.articles,
            parts.test.photos,
            recipe.revision.revision if recipe.revision else cosine(),
            bank=parts.rest.articles if recipe.revision and recipe.revision.bank == "rest" else None,
            weights=weights,
        )
        run = replace(run, name=name or recipe.name)
        measures = parse_all([*DEFAULT, *recipe.claim.numbers])
        return Outcome(recipe, run, evaluate(run, parts.test.pairs, measures), tuple(dict.fromkeys((*wrong, *faults))))

    def load(self, name: str) -> Encoder:
        """An encoder, cached."""
        if name not in self._encoders:
            self._encoders[name] = registry.load(name)
        return self._encoders[name]

    def spaceless(self, recipe: Recipe) -> tuple[str, ...]:
        """Encoders of a recipe whose towers share no space without a network."""
        return tuple(name for name in recipe.encoders.names if self.load(name).network is not None)

    def network_of(self, recipe: Recipe, name: str) -> Network | None:
        """The T×V network of `recipe` for an encoder: the given one, else one that is trained and cached; or None."""
        if recipe.network is None or self.network is not None:
            return self.network if recipe.network else None
        preparation = recipe.texts.preparations[-1]
        key = (recipe.network, recipe.data, preparation, name)
        if key not in self._trained:
            before = self.pretrain if recipe.network.pretrain else None
            self._trained[key] = trained(
                recipe.network,
                self.load(name),
                self.parts(recipe).rest,
                before,
                preparation,
                self.store,
                self.progress,
            )
        return self._trained[key]

    def _encoder(self, recipe: Recipe, name: str) -> Encoder:
        encoder, network = self.load(name), self.network_of(recipe, name)
        if network is None:
            return encoder
        towers = encoder.texts.fingerprint, encoder.photos.fingerprint
        if (network.text_tower, network.photo_tower) != towers:
            raise EncoderError(
                f"the network was trained on {network.text_tower} and {network.photo_tower}, and {name} is "
                f"{' and '.join(towers)}"
            )
        return replace(encoder, network=network)


def _weights(recipe: Recipe, chain: Chain, rest: Dataset) -> tuple[Sequence[float], tuple[Fault, ...]]:
    """A weight per encoder and word limit; learned ones maximise the likelihood of the pairs that are not measured."""
    if recipe.encoders.learn:
        known, faults = chain.encodings(rest.articles, rest.photos)
        return fusion.learn(known, rest.pairs, normalise=chain.normalise).weights, faults
    encoders, texts = (
        given or [1 / len(each)] * len(each)
        for given, each in ((recipe.encoders.weights, chain.encoders), (recipe.texts.weights, chain.preparations))
    )
    return [e * t for e in encoders for t in texts], ()


def trained(
    net: Net,
    encoder: Encoder,
    data: Dataset,
    pretrain: Dataset | None,
    preparation: Preparation,
    store: Store,
    progress: Progress,
) -> Network:
    """The network of a recipe's `[network]`, trained on `data` with texts prepared as for ranking.

    Titles with tags are a second view of titles (`pairs.VIEWS`).

    Raises:
        DataError: nothing to train on.
        UsageError: no such preset.
        MissingExtra: torch is not installed.
    """
    from photodesk.training import config, splits, train
    from photodesk.training.pairs import gather

    sets = [each for each in (data, pretrain) if each is not None]
    weights = (1.0, 0.0) if pretrain is not None else ()
    pairs = gather(
        sets, encoder.texts, encoder.photos, store, weights=weights, preparation=preparation, progress=progress
    )
    kind, _, size = net.split.partition(":")
    share = float(size) if "." in size else min(int(size), int(pairs.main.sum()) // 2)
    return train.fit(
        pairs,
        (encoder.texts.fingerprint, encoder.photos.fingerprint),
        (encoder.texts.dims, encoder.photos.dims),
        replace(config.PRESETS[net.preset], seed=net.seed),
        split=splits.parse(kind),
        validation=share,
        leaks="keep",
        pretrain=1 if pretrain is not None else None,
    )


def comparison(outcome: Outcome, title: str, *, seed: int = 0) -> Table:
    """A row per measure: the paper's figure, ours with its 95 % interval, the difference, and whether the interval
    holds the paper's figure."""
    rows = []
    for name, claimed in outcome.recipe.claim.numbers.items():
        ours = outcome.report.mean(name)
        low, high = outcome.report.interval(name, seed=seed)
        gap = ("" if ours < claimed else "+") + digits(ours - claimed)
        figures = map(digits, (claimed, ours, low, high))
        rows.append((name, *figures, gap, "yes" if low <= claimed <= high else "no"))
    return Table(title, ("measure", "paper", "ours", "95 % from", "to", "ours − paper", "paper within"), tuple(rows))
