"""What is deployed is what was tested: the same Kafka, and only settings that exist."""

from __future__ import annotations

import re
from pathlib import Path

from streams.kafka_jars import KAFKA_VERSION, expected_sums
from streams.settings import OTHER_VARIABLES, load_settings

PROJECT = Path(__file__).resolve().parent.parent.parent
COMPOSE = (PROJECT / "deploy" / "compose.yaml").read_text()
DOCKERFILE = (PROJECT / "deploy" / "Dockerfile").read_text()


def test_compose_has_the_kafka_that_tests_run_on() -> None:
    assert f"image: apache/kafka:{KAFKA_VERSION}\n" in COMPOSE
    assert f"kafka_2.13-{KAFKA_VERSION}.jar" in expected_sums()


def test_compose_and_image_use_settings_that_exist() -> None:
    in_compose = dict(re.findall(r"^ +(PLIMSOLL_\w+): (.+)$", COMPOSE, re.MULTILINE))
    in_image = dict(re.findall(r"(PLIMSOLL_\w+)=(\S+)", "\n".join(re.findall(r"^ENV (.+)$", DOCKERFILE, re.MULTILINE))))
    assert len(in_compose) == 2
    assert len(in_image) == 3
    assert "PLIMSOLL_CACHE_DIR" in OTHER_VARIABLES
    values = {name: re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", value) for name, value in (in_image | in_compose).items()}
    settings = load_settings(environment=values)
    assert settings.bootstrap == "kafka:9092"
    assert (settings.listen, settings.console) == ("0.0.0.0", False)
    assert len(settings.venues) >= 2


def test_the_lock_pins_everything_with_hashes_and_names_no_registry() -> None:
    lock = (PROJECT / "requirements.lock").read_text()
    pins = re.findall(r"^[a-z0-9][^\n]*?==[^\n]*(?:\n +--hash=[^\n]*)*", lock, re.MULTILINE)
    requirements = re.findall(r"^[a-z0-9]", lock, re.MULTILINE)
    assert len(pins) == len(requirements) > 40
    assert all("--hash=sha256:" in pin for pin in pins)
    assert "://" not in lock
