"""Settings: where they come from, what goes over what, that every fault is told at once, and that no secret gets out."""

from __future__ import annotations

import re
import ssl
import subprocess
from pathlib import Path

import faust
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from pydantic import ValidationError

from streams.settings import Mechanism, Settings, SettingsError, console_password, faust_broker_options, kafka_client_options, load_settings

SECRET = "correct horse battery"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate and its key, which is encrypted with SECRET."""
    folder = tmp_path_factory.mktemp("tls")
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=kafka.example"]
    made += ["-days", "2", "-keyout", "key.pem", "-out", "ca.pem", "-passout", f"pass:{SECRET}"]
    subprocess.run(made, cwd=folder, check=True, capture_output=True)
    return folder / "ca.pem", folder / "key.pem"


def test_defaults_reach_this_machine() -> None:
    settings = load_settings(environment={})
    assert settings == Settings()
    assert kafka_client_options(settings) == {"bootstrap_servers": ["127.0.0.1:9092"], "security_protocol": "PLAINTEXT"}
    assert faust_broker_options(settings) == {"broker": ["aiokafka://127.0.0.1:9092"]}


def test_overrides_go_over_variables_over_the_file_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "plimsoll.toml"
    path.write_text(
        'group = "file"\nledger_partitions = 8\ncut_interval_ms = 100\nvenues = ["a"]\n[security]\nprotocol = "SASL_SSL"\nusername = "u"\n'
    )
    environment = {
        "PLIMSOLL_SETTINGS": str(path),
        "PLIMSOLL_LEDGER_PARTITIONS": "16",
        "PLIMSOLL_CUT_INTERVAL_MS": "200",
        "PLIMSOLL_VENUES": "binance, hyperliquid",
        "PLIMSOLL_SECURITY__PASSWORD": SECRET,
        "PLIMSOLL_KAFKA_HOME": "elsewhere",
        "HOME": "/root",
    }
    settings = load_settings(environment=environment, cut_interval_ms=300)
    assert (settings.group, settings.ledger_partitions, settings.cut_interval_ms) == ("file", 16, 300)
    assert settings.venues == ("binance", "hyperliquid")
    assert (settings.security.username, settings.security.mechanism) == ("u", Mechanism.SCRAM_SHA_512)
    assert kafka_client_options(settings)["sasl_plain_password"] == SECRET


def test_every_fault_is_told_at_once() -> None:
    environment = {
        "PLIMSOLL_BOOTSTRAP": "kafka",
        "PLIMSOLL_LEDGER_PARTITIONS": "0",
        "PLIMSOLL_MODE": "yolo",
        "PLIMSOLL_CUT_INTERVALL_MS": "100",
        "PLIMSOLL_HEARTBEAT_S": "5",
        "PLIMSOLL_MIN_ISR": "2",
        "PLIMSOLL_WATCHDOG_S": "1",
        "PLIMSOLL_CUT_INTERVAL_MS": "500",
        "PLIMSOLL_VENUES": "a,a",
        "PLIMSOLL_SECURITY__CA_FILE": "/nowhere/ca.pem",
        "PLIMSOLL_SECURITY__PASSWORD": SECRET,
        "PLIMSOLL_SECURITY__USER": "u",
    }
    with pytest.raises(SettingsError) as caught:
        load_settings(environment=environment)
    told = {line.strip().partition(":")[0]: line.partition(": ")[2] for line in str(caught.value).splitlines()[1:]}
    assert set(told) == {
        "bootstrap",
        "ledger_partitions",
        "mode",
        "cut_intervall_ms",
        "heartbeat_s",
        "min_isr",
        "watchdog_s",
        "venues",
        "security.ca_file",
        "security.password",
        "security.user",
    }
    assert told["cut_intervall_ms"] == "there is no such setting"
    assert told["heartbeat_s"] == "must be at most a third of session_timeout_s 10.0"
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("security", "fault"),
    [
        ({"protocol": "SASL_SSL", "password": SECRET}, "security.username: is needed by SASL_SSL"),
        ({"protocol": "SASL_SSL", "username": "u"}, "security.password_file: password or password_file is needed by SASL_SSL"),
        (
            {"protocol": "SASL_SSL", "username": "u", "password": SECRET, "password_file": __file__},
            "give password or password_file, not both",
        ),
        ({"ca_file": __file__}, "security.ca_file: says nothing to a broker spoken to by PLAINTEXT"),
        ({"protocol": "SSL", "username": "u"}, "security.username: says nothing to a broker spoken to by SSL"),
        ({"protocol": "SSL", "key_file": __file__}, "security.key_file: needs certificate_file"),
    ],
)
def test_security_settings_must_fit_together(security: dict[str, str], fault: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(environment={}, security=security)
    assert fault in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2
    assert SECRET not in str(caught.value)


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    settings = load_settings(environment={}, security={"protocol": "SASL_SSL", "username": "u", "password": SECRET})
    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()

    path = tmp_path / "password"
    path.write_text(SECRET + "\n")
    from_file = load_settings(environment={}, security={"protocol": "SASL_PLAINTEXT", "username": "u", "password_file": str(path)})
    assert kafka_client_options(from_file)["sasl_plain_password"] == SECRET
    assert SECRET not in repr(from_file)


def test_settings_are_frozen_and_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        Settings().group = "other"  # type: ignore[misc]  # what is tested
    with pytest.raises(SettingsError, match=r"missing\.toml cannot be read"):
        load_settings(tmp_path / "missing.toml", environment={})
    (tmp_path / "bad.toml").write_text("group = ")
    with pytest.raises(SettingsError, match=r"bad\.toml is not TOML"):
        load_settings(tmp_path / "bad.toml", environment={})


async def test_clients_take_the_options_and_faust_hands_on_the_same(certificate: tuple[Path, Path]) -> None:
    ca, key = certificate
    security = {
        "protocol": "SASL_SSL",
        "ca_file": str(ca),
        "certificate_file": str(ca),
        "key_file": str(key),
        "key_password": SECRET,
        "mechanism": "SCRAM-SHA-256",
        "username": "u",
        "password": SECRET,
    }
    settings = load_settings(environment={}, bootstrap="a.example:9093,b.example:9093", security=security)
    options = kafka_client_options(settings)
    context = options["ssl_context"]
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert [found["subject"] for found in context.get_ca_certs()] == [((("commonName", "kafka.example"),),)]
    consumer, producer, admin = AIOKafkaConsumer(**options), AIOKafkaProducer(**options), AIOKafkaAdminClient(**options)
    for client in (consumer._client, producer.client, admin._client):
        assert (client._security_protocol, client._ssl_context, client._sasl_mechanism) == ("SASL_SSL", context, "SCRAM-SHA-256")
    await consumer.stop()
    await producer.stop()

    app = faust.App("settings-test", **faust_broker_options(settings))
    assert [str(url) for url in app.conf.broker] == ["aiokafka://a.example:9093", "aiokafka://b.example:9093"]
    handed_on = dict(credentials_to_aiokafka_auth(app.conf.broker_credentials))
    assert isinstance(handed_on.pop("ssl_context"), ssl.SSLContext)
    assert handed_on == {name: value for name, value in options.items() if name not in {"bootstrap_servers", "ssl_context"}}


def test_a_key_without_its_password_is_a_fault_and_asks_nobody(certificate: tuple[Path, Path]) -> None:
    ca, key = certificate
    security = {"protocol": "SSL", "ca_file": str(ca), "certificate_file": str(ca), "key_file": str(key)}
    with pytest.raises(SettingsError, match="certificate or key is not in order"):
        kafka_client_options(load_settings(environment={}, security=security))


def test_every_setting_is_read_by_something() -> None:
    code = "\n".join(path.read_text() for path in (Path(__file__).parents[2] / "streams").rglob("*.py"))
    assert [name for name in Settings.model_fields if not re.search(rf"\bsettings\.{name}\b", code)] == []


@pytest.mark.parametrize("listen", ["0.0.0.0", "::", "192.168.1.7", "monitor.example"])
def test_the_console_is_shown_to_others_with_a_password_only(tmp_path: Path, listen: str) -> None:
    with pytest.raises(SettingsError, match=r"console_password_file: is needed.*or set console = false"):
        load_settings(environment={}, listen=listen)
    assert not load_settings(environment={}, listen=listen, console=False).console
    file = tmp_path / "password"
    with pytest.raises(SettingsError, match="console_password_file: there is no such file"):
        load_settings(environment={}, listen=listen, console_password_file=file)
    file.write_text(" \n")
    with pytest.raises(SettingsError, match="console_password_file: the file is empty"):
        load_settings(environment={}, listen=listen, console_password_file=file)
    file.write_text(SECRET + "\n")
    assert console_password(load_settings(environment={}, listen=listen, console_password_file=file)) == SECRET


@pytest.mark.parametrize("listen", ["127.0.0.1", "::1", "localhost"])
def test_on_this_machine_the_console_needs_no_password(listen: str) -> None:
    settings = load_settings(environment={}, listen=listen)
    assert settings.console
    assert console_password(settings) is None
