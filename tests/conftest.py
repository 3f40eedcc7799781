"""What every test may ask for: one real Kafka for the whole run, and topic names of its own on it."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from streams.broker import Cluster, cluster
from streams.settings import Settings, load_settings

if settings.get_current_profile_name() == "default":  # neither a CI's, nor that of mutations
    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses the broker is marked so: `pytest -m 'not kafka'` is the quick run."""
    for item in items:
        if isinstance(item, pytest.Function) and "kafka" in item.fixturenames:
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def kafka() -> Iterator[Cluster]:
    """`$PLIMSOLL_BOOTSTRAP` where set, else one broker started for this run; use its `bootstrap`, and topics under `topic_prefix`.

    A test that stops, kills or restarts a broker starts its own: `with LocalBroker(tmp_path) as broker`.
    """
    folder = Path(tempfile.mkdtemp(prefix="plimsoll-kafka-"))
    try:
        with cluster(folder) as found:
            yield found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for topics, groups, transactional ids and app ids that no other test, nor an earlier run on the same cluster, has."""
    return f"test-{uuid.uuid4().hex[:12]}."


@pytest.fixture
def kafka_settings(kafka: Cluster, topic_prefix: str) -> Settings:
    """Settings for this test alone: its own topics, group and port; `model_copy(update=...)` changes some."""
    return load_settings(
        environment={},
        bootstrap=kafka.bootstrap,
        topic_prefix=topic_prefix,
        group=topic_prefix.rstrip("."),
        metrics_port=0,
    )
