"""The API fuzzed from its own description: whatever is sent, the answer is one that the description names, never our
own mistake."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

pytest.importorskip("fastapi")
pytest.importorskip("schemathesis")
import schemathesis
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

import webdesk
from photodesk.archive.archive import Archive
from photodesk.web import create_app


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    webdesk.build(folder, ["Rom", "Ulm"])
    with Archive.open(folder / "desk", doing="serve") as archive:
        yield schemathesis.openapi.from_asgi(
            "/openapi.json",
            create_app(
                webdesk.Desk(archive), key="a key that nobody guesses", hosts=frozenset({"localhost", "testserver"})
            ),
        )


def test_whatever_is_sent_the_answer_is_as_described(described):
    tried = []
    for found in described.get_all_operations():
        operation = found.ok()

        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @settings(
                max_examples=15, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def one(case):
                case.call_and_validate(
                    excluded_checks=[positive_data_acceptance]
                )  # a schema cannot say "one of these at least"

            try:
                one()
            except Unsatisfiable:  # nothing can be sent wrongly where nothing is sent
                continue
            tried.append(operation.label)
    assert len(set(tried)) == 16, tried
