"""Encoding on many machines with Ray Data: units of a source go to actors that hold the model, rows come back to the
one store.

Each worker runs the pipeline of a single machine (`pipeline.encode`). Which contents are stored is sent along, so what
is done is not done again. If a worker or its machine is lost, Ray gives its unit to another one; what it had delivered
is committed.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photodesk.encoders import registry
from photodesk.errors import EncoderError, PhotodeskError, StoreError, UsageError, require
from photodesk.features import pipeline
from photodesk.features.shards import Keys, joined
from photodesk.features.sources import Unit

EXTRA = "ray"
BLOCKS = 20_000  # of units at most: Ray keeps a record of each
ROUNDS = 3


class Worker:
    """Holds the model on one machine and encodes one unit after the other.

    Args:
        encoder: name of the encoder, as `registry.load` reads it; its files must be on that machine.
        stored: in Ray's shared memory, the keys that are stored already, sorted.
        threads: cores that it may use.
    """

    def __init__(self, encoder: str, stored: Sequence[Any], threads: int) -> None:
        self._threads = threads
        self._stored: Keys = require("ray", EXTRA).get(stored[0]).view("S16")
        self._error = ""
        try:
            self._tower = registry.load(encoder).photos
        except PhotodeskError as error:  # raised here, Ray would try it again on and on
            self._error = f"has no {encoder}: {error}"

    def __call__(self, batch: dict[str, NDArray[Any]]) -> Iterator[dict[str, Any]]:
        """One row a unit: its number and what became of its pictures, so that a unit is delivered whole or not at
        all."""
        for number, unit in zip(batch["number"].tolist(), batch["unit"].tolist(), strict=True):
            made: tuple[str, pipeline.Batch | str] = ("", self._error)
            if not self._error:
                made = self._made(pickle.loads(unit))  # noqa: S301  our own driver's
            yield {"number": np.array([number]), "made": np.array([pickle.dumps(made)], object)}

    def _made(self, unit: Unit) -> tuple[str, pipeline.Batch | str]:
        try:
            parts = list(pipeline.encode(unit.pictures(), self._tower, self.has, threads=self._threads))
        except (
            Exception
        ) as error:  # raised here, it would reach the user as Ray's traceback, without the source that it came with
            source = unit.place or " … ".join(dict.fromkeys((unit.files[0][1], unit.files[-1][1])))
            said = (
                str(error)
                if isinstance(error, PhotodeskError)
                else f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            )
            return "", f"failed on {source}: {said}"
        names, keys = [name for part in parts for name in part.names], [key for part in parts for key in part.keys]
        rows = {key: row for part in parts for key, row in part.rows.items()}
        return self._tower.fingerprint, pipeline.Batch(names, keys, rows)

    def has(self, keys: Sequence[bytes]) -> list[bool]:
        """Which of the keys were stored when the work began."""
        if not len(self._stored):
            return [False] * len(keys)
        asked = joined(keys)
        place = np.minimum(np.searchsorted(self._stored, asked), len(self._stored) - 1)
        found: list[bool] = (self._stored[place] == asked).tolist()
        return found


def encode(
    units: Sequence[Unit], encoder: str, tower: str, stored: Keys, address: str
) -> Iterator[tuple[int, pipeline.Batch]]:
    """(number of the unit, batch) as the workers of a Ray cluster deliver them.

    Args:
        units: what to encode.
        encoder: name of the encoder, which every machine must have.
        tower: fingerprint that its photo tower must have there.
        stored: keys that need no encoding, sorted.
        address: of the cluster, as `ray.init` takes it; "auto" finds the one that this machine belongs to, "local"
            starts one here.

    Raises:
        UsageError: there is no cluster at that address.
        EncoderError: a machine lacks the model or has another one, or the model failed on a source, which is named.
        StoreError: Ray failed, or gave a part of the work up; what came is kept.
        MissingExtra: Ray is not installed.
    """
    ray, data = require("ray", EXTRA), require("ray.data", EXTRA)
    ours = connect(ray, address)
    try:
        for name in ("ray", "ray.data"):  # progress is ours to tell
            logging.getLogger(name).setLevel(logging.ERROR)
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = False
        workers, cpus, gpus = _workers(ray)
        seen = ray.put(np.frombuffer(np.ascontiguousarray(stored).tobytes(), np.uint8))
        todo = dict(enumerate(units))
        for _ in range(ROUNDS):  # one is enough, unless Ray gave a unit up
            made = _mapped(data, todo, (encoder, [seen], cpus), workers, gpus)
            for batch in made.iter_batches(batch_size=None, batch_format="numpy"):
                for number, packed in zip(batch["number"].tolist(), batch["made"].tolist(), strict=True):
                    found, result = pickle.loads(packed)  # noqa: S301  our own worker's
                    if isinstance(result, str):
                        raise EncoderError(f"a worker {result}; what came before is kept")
                    if found != tower:
                        raise EncoderError(
                            f"{encoder} is {tower} here and {found} on a worker; give all machines the same version "
                            "and files"
                        )
                    if todo.pop(number, None):
                        yield number, result
            if not todo:
                return
        raise StoreError(
            f"{len(todo)} of {len(units)} units came back from no worker; run the same command again: what came is kept"
        )
    except ray.exceptions.RayError as error:  # lost machines, workers killed for their memory
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise StoreError(f"the Ray cluster failed ({reason}); run the same command again: what came is kept") from None
    finally:
        if ours:
            ray.shutdown()


def _mapped(data: Any, todo: dict[int, Unit], worker: tuple[str, list[Any], int], workers: int, gpus: int) -> Any:
    """What so many workers make of the units, as a data set of Ray, which computes it when it is read."""
    rows = [{"number": number, "unit": pickle.dumps(unit)} for number, unit in todo.items()]
    return data.from_items(rows, override_num_blocks=min(len(rows), BLOCKS)).map_batches(
        Worker,
        fn_constructor_args=worker,
        batch_size=1,
        compute=data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
        num_cpus=worker[2],
        num_gpus=gpus,
    )


def connect(ray: Any, address: str) -> bool:
    """Join the cluster; returns whether that was for us to do, and so to undo."""
    if ray.is_initialized():
        return False
    try:
        ray.init(
            address=None if address == "local" else address,
            logging_level=logging.ERROR,
            log_to_driver=False,
            include_dashboard=False if address == "local" else None,
        )
    except ConnectionError as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"no Ray cluster at {address} ({reason}); start one with: ray start --head, or use --ray local"
        ) from None
    return True


def _workers(ray: Any) -> tuple[int, int, int]:
    """How many actors, with how many cores and GPUs each: one a GPU, else one a machine, of the size of the
    smallest."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    if not nodes:
        raise UsageError("the Ray cluster has no processor to give; start its nodes with --num-cpus")
    gpus = [node for node in nodes if node.get("GPU", 0) >= 1]
    if gpus:
        cpus = max(1, int(min(node["CPU"] / node["GPU"] for node in gpus)))
        return sum(int(node["GPU"]) for node in gpus), cpus, 1
    cpus = int(min(node["CPU"] for node in nodes))
    return sum(int(node["CPU"]) // cpus for node in nodes), cpus, 0
