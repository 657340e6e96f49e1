"""Encoding on a real Ray cluster of two node processes on this machine."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from doubles import EchoPhotos, colour, echo, paint
from photodesk.encoders import registry
from photodesk.errors import EncoderError, MissingExtra, StoreError, UsageError
from photodesk.features import ray_cluster as cluster_module
from photodesk.features import sources
from photodesk.features.ray_cluster import Worker, connect
from photodesk.features.shards import Shards
from photodesk.features.store import Store
from photodesk.search.flat_index import build_index

ray = pytest.importorskip("ray", reason="ray is not installed; pip install 'photodesk[ray]'")

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own

WORDS = [f"word {i}" for i in range(48)]


@pytest.fixture(scope="module")
def cluster():
    """A head without processors, and two nodes with one each."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_DEDUP_LOGS"] = "0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        memory = 100 << 20
        made = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "object_store_memory": memory, "include_dashboard": False},
        )
        made.nodes = [made.add_node(num_cpus=1, object_store_memory=memory) for _ in range(2)]
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for word in WORDS:
        paint(folder / f"{word}.png", word, size=(300, 200))
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def plain(folder, tmp_path_factory):
    """The index that this process makes by itself."""
    made = tmp_path_factory.mktemp("plain")
    return build_index(folder, made / "index", registry.load(), store=Store(made / "cache"))


def test_two_nodes_of_which_one_is_killed_give_what_one_process_gives(cluster, folder, plain, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "PER_UNIT", 2)
    killed = []

    def progress(stage, done, of):
        if not killed and done >= 6:
            killed.append((done, of))
            cluster.remove_node(cluster.nodes[0], allow_graceful=False)

    index, faults = build_index(
        folder,
        tmp_path / "index",
        registry.load(),
        store=Store(tmp_path / "cache"),
        ray=cluster.address,
        progress=progress,
    )
    assert killed[0][0] < killed[0][1] == len(WORDS) + 1
    assert index.embeddings.ids == plain[0].embeddings.ids
    assert np.allclose(index.embeddings.rows, plain[0].embeddings.rows, atol=1e-5)
    assert index.paths == plain[0].paths
    assert faults == plain[1]
    assert [fault.where for fault in faults] == [str(folder / "broken.png")]

    # what came is kept: a second run, on the node that is left, encodes nothing
    tower = registry.load().photos
    (rows,) = (tmp_path / "cache").iterdir()
    before = Shards.open(rows, tower.fingerprint, tower.dim)
    again, _ = build_index(
        folder, tmp_path / "index", registry.load(), store=Store(tmp_path / "cache"), ray=cluster.address
    )
    assert (rows / "000001.log").stat().st_size == 24 * len(WORDS) == 24 * len(before)
    assert np.array_equal(again.embeddings.rows, index.embeddings.rows)


def test_a_worker_passes_over_what_is_stored(cluster, folder):
    unit = sources.find(folder)[0][0]
    import pickle

    batch = {"number": np.array([7]), "unit": np.array([pickle.dumps(unit)], object)}

    def work(stored):
        keys = np.frombuffer(b"".join(sorted(stored)), np.uint8)
        (row,) = Worker("builtin", [ray.put(keys)], 1)(batch)
        assert row["number"].tolist() == [7]
        return pickle.loads(row["made"][0])[1]

    everything = work([])
    keys = [key for key in everything.keys if isinstance(key, bytes)]
    assert set(everything.rows) == set(keys)
    some = work(keys[::2])
    assert some.keys == everything.keys
    assert set(some.rows) == set(keys[1::2])
    assert all(np.allclose(some.rows[key], everything.rows[key], atol=1e-5) for key in some.rows)


def test_a_worker_without_the_model_or_with_another_is_named(cluster, folder, tmp_path):
    class Other:
        fingerprint = "lite of another version"
        dim = 3840

    with pytest.raises(EncoderError, match=r"builtin is lite of another version here and lite012/2 on a worker"):
        build_index(
            folder,
            tmp_path / "a",
            replace(registry.load(), photos=Other()),
            store=Store(tmp_path / "c"),
            ray=cluster.address,
        )
    with pytest.raises(EncoderError, match=r"a worker has no onnx:/nowhere: /nowhere holds no export"):
        build_index(
            folder,
            tmp_path / "a",
            replace(registry.load(), name="onnx:/nowhere"),
            store=Store(tmp_path / "c"),
            ray=cluster.address,
        )


class Here:
    """As much of Ray as `cluster.encode` asks for, in this process; `lost` is raised once a batch came."""

    exceptions = ray.exceptions

    def __init__(self, lost=None):
        self.lost = lost

    def is_initialized(self):
        return True

    def put(self, value):
        return value

    get = put

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 1}}]

    class DataContext:
        @staticmethod
        def get_current():
            return SimpleNamespace(execution_options=SimpleNamespace())

    ActorPoolStrategy = dict

    def from_items(self, rows, **options):
        self.rows = rows
        return self

    def map_batches(self, worker, *, fn_constructor_args, **options):
        self.worker = worker(*fn_constructor_args)
        return self

    def iter_batches(self, **options):
        for row in self.rows:
            batch = {"number": np.array([row["number"]]), "unit": np.array([row["unit"]], object)}
            yield from self.worker(batch)
            if self.lost:
                raise self.lost


class Choosy(EchoPhotos):
    """Fails on a batch that holds the colour of one word."""

    def encode(self, batch):
        if (np.abs(batch - np.array(colour("word 3"))).max(axis=1) < 3).any():
            raise RuntimeError("shapes do not\n fit")
        return super().encode(batch)


def test_a_model_that_fails_on_a_worker_is_named_with_the_source(folder, tmp_path, monkeypatch):
    encoder = replace(echo(), photos=Choosy())
    monkeypatch.setattr(sources, "PER_UNIT", 1)
    monkeypatch.setattr(cluster_module, "require", lambda module, extra: here)
    monkeypatch.setattr(registry, "load", lambda name: encoder)
    here, store = Here(), Store(tmp_path / "cache")
    with pytest.raises(
        EncoderError,
        match=rf"a worker failed on {folder / 'word 3.png'}: RuntimeError: shapes do not fit; finished units are kept",
    ):
        build_index(folder, tmp_path / "index", encoder, store=store, ray="auto")
    seen = encoder.photos.seen
    assert seen > 0
    (folder_of_rows,) = (tmp_path / "cache").iterdir()
    assert len(Shards.open(folder_of_rows, "echo-photos", 3)) == seen


def test_a_library_that_a_worker_lacks_is_named(folder, tmp_path, monkeypatch):
    def missing(place):
        raise MissingExtra('this needs s3fs; run: pip install "photodesk[s3]"')

    here = Here()
    monkeypatch.setattr(cluster_module, "require", lambda module, extra: here)
    monkeypatch.setattr(registry, "load", lambda name: echo())
    monkeypatch.setattr(sources, "read", missing)
    with pytest.raises(
        EncoderError, match=r"a worker failed on .*broken\.png … .*\.png: this needs s3fs; run: pip install"
    ):
        build_index(folder, tmp_path / "index", echo(), store=Store(tmp_path / "cache"), ray="auto")


def test_a_cluster_that_breaks_down_is_said_plainly(folder, tmp_path, monkeypatch):
    here = Here(lost=ray.exceptions.OutOfMemoryError("Task was killed\ndue to the node running low on memory."))
    monkeypatch.setattr(sources, "PER_UNIT", 1)
    monkeypatch.setattr(cluster_module, "require", lambda module, extra: here)
    monkeypatch.setattr(registry, "load", lambda name: echo())
    with pytest.raises(
        StoreError, match=r"the Ray cluster failed \(.*killed due to the node .*\); run the same command again"
    ):
        build_index(folder, tmp_path / "index", echo(), store=Store(tmp_path / "cache"), ray="auto")


def test_no_cluster_is_said_plainly():
    class Nobody:
        @staticmethod
        def is_initialized():
            return False

        @staticmethod
        def init(**options):
            raise ConnectionError("Could not find any running Ray instance.")

    with pytest.raises(
        UsageError,
        match=r"no Ray cluster at auto \(Could not find .* start one with: ray start --head, or use --ray local",
    ):
        connect(Nobody, "auto")
