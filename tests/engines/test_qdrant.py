"""What of `qdrant:` is about addresses, servers that fail, and snapshots; the rest is in test_contract.py."""

from __future__ import annotations

import http.server
import json
import threading

import pytest

from photodesk.engines.base import Space
from photodesk.engines.registry import open_engine
from photodesk.errors import StoreError, UsageError

pytest.importorskip("qdrant_client")


@pytest.fixture
def server():
    """A server that knows one collection of rows of 4 + 1 numbers and how to make a snapshot of it."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self, result):
            seen.append((self.command, self.path.partition("?")[0], self.headers.get("api-key")))
            body = (
                result
                if isinstance(result, bytes)
                else json.dumps({"result": result, "status": "ok", "time": 0}).encode()
            )
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            optimizers = {
                "deleted_threshold": 0.2,
                "vacuum_min_vector_number": 1000,
                "default_segment_number": 0,
                "flush_interval_sec": 5,
            }
            config = {
                "params": {"vectors": {"photo": {"size": 5, "distance": "Dot"}}},
                "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
                "optimizer_config": optimizers,
            }
            if self.path.endswith("/exists"):
                self.answer({"exists": "/photos/" in self.path})
            elif self.path.endswith(".snapshot"):
                self.answer(b"all of it")
            else:
                self.answer(
                    {
                        "status": "green",
                        "optimizer_status": "ok",
                        "segments_count": 1,
                        "config": config,
                        "payload_schema": {"folded": {"data_type": "keyword", "points": 0}},
                    }
                )

        def do_POST(self):
            self.answer({"name": "one.snapshot", "size": 9})

        def do_DELETE(self):
            self.answer(True)

        def do_PUT(self):  # an index for a field that is not in the schema yet
            self.rfile.read(int(self.headers["content-length"]))
            self.answer({"operation_id": 1, "status": "completed"})

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"qdrant:http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    "uri",
    [
        "qdrant:photos",
        "qdrant:http://host:6333",
        "qdrant:http://host:6333/a/b",
        "qdrant:ftp://host/photos",
        "qdrant:http://host/photos?shard=3",
        "qdrant:http://host/photos?shards=many",
        "qdrant:http://host/photos?replicas=0",
        "qdrant:http://host/photos?quantise=int4",
        "qdrant:http://host/photos?exact=maybe",
    ],
)
def test_addresses_that_make_no_sense_are_refused_before_anybody_is_asked(uri):
    with pytest.raises(UsageError, match="expected|unknown option|a number from 1"):  # noqa: RUF043
        open_engine(uri, Space(4))


def test_no_server_is_said():
    with pytest.raises(StoreError, match="is the server up"):
        open_engine("qdrant:http://127.0.0.1:9/photos", Space(4))


def test_collections_that_are_absent_there_or_of_another_size_are_refused(server):
    uri, _ = server
    with pytest.raises(StoreError, match="is not there"):
        open_engine(f"{uri}/nothing", Space(4))
    with pytest.raises(StoreError, match="already there"):
        open_engine(f"{uri}/photos", Space(4), create=True)
    with pytest.raises(StoreError, match="rows of 4 numbers and the archive's encoder makes 5"):
        open_engine(f"{uri}/photos", Space(5))


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_a_snapshot_is_fetched_with_the_key_and_then_deleted_there(server, tmp_path, monkeypatch):
    uri, seen = server
    monkeypatch.setenv("PHOTODESK_QDRANT_KEY", "secret")
    engine = open_engine(f"{uri}/photos", Space(4))
    engine.snapshot(tmp_path / "copy")
    engine.close()
    assert (tmp_path / "copy/photos.snapshot").read_bytes() == b"all of it"
    assert [what for what, path, _ in seen if "snapshots" in path] == ["POST", "GET", "DELETE"]
    assert {key for *_, key in seen} == {"secret"}
    with pytest.raises(StoreError, match="closed"):
        engine.count()
