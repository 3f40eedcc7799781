"""A cluster as others run it: TLS both ways and a password, reached with nothing but settings."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.broker import HOST, LocalBroker, free_port
from streams.messages import TopicSpec
from streams.settings import Settings, kafka_client_options, load_settings
from streams.topics_admin import create_topics

PASSWORD = "correct horse battery"
KEY_PASSWORD = "staple"
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority (`ca.pem`), what it signed for the broker, and for us with an encrypted key."""
    folder = tmp_path_factory.mktemp("tls")
    (folder / "names").write_text(f"subjectAltName=IP:{HOST}\n")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    openssl(folder, "req", "-x509", *curve, "-nodes", "-subj", "/CN=authority", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem")
    for name, protection in (("broker", ("-nodes",)), ("client", ("-passout", f"pass:{KEY_PASSWORD}"))):
        openssl(folder, "req", *curve, *protection, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = ("-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl(folder, "x509", *signed, "-out", f"{name}.pem")
    (folder / "keystore.pem").write_text((folder / "broker.key").read_text() + (folder / "broker.pem").read_text())
    return folder


@pytest.fixture(scope="module")
def secured(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a listener that wants TLS with a certificate of ours, and a password."""
    address = f"{HOST}:{free_port()}"
    properties = {
        "listeners": f"SECURE://{address}",
        "advertised.listeners": f"SECURE://{address}",
        "listener.security.protocol.map": "SECURE:SASL_SSL",
        "listener.name.secure.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secure.plain.sasl.jaas.config": f'{PLAIN} required user_plimsoll="{PASSWORD}";',
        "listener.name.secure.ssl.client.auth": "required",
        "listener.name.secure.ssl.keystore.type": "PEM",
        "listener.name.secure.ssl.keystore.location": str(certificates / "keystore.pem"),
        "listener.name.secure.ssl.truststore.type": "PEM",
        "listener.name.secure.ssl.truststore.location": str(certificates / "ca.pem"),
        "sasl.enabled.mechanisms": "PLAIN",
        "security.inter.broker.protocol": "PLAINTEXT",
    }
    with LocalBroker(tmp_path_factory.mktemp("broker"), properties=properties):
        yield address


def settings(bootstrap: str, certificates: Path, **security: str | None) -> Settings:
    given = {
        "protocol": "SASL_SSL",
        "ca_file": str(certificates / "ca.pem"),
        "certificate_file": str(certificates / "client.pem"),
        "key_file": str(certificates / "client.key"),
        "key_password": KEY_PASSWORD,
        "mechanism": "PLAIN",
        "username": "plimsoll",
        "password": PASSWORD,
    } | security
    return load_settings(environment={}, bootstrap=bootstrap, security={name: value for name, value in given.items() if value is not None})


async def test_admin_producer_and_consumer_reach_it_with_settings_alone(secured: str, certificates: Path) -> None:
    options = kafka_client_options(settings(secured, certificates))
    assert await create_topics(options, [TopicSpec("t", 1, 1, {})]) == ["t"]
    async with AIOKafkaProducer(**options) as producer:
        await producer.send_and_wait("t", b"sealed")
    async with AIOKafkaConsumer("t", auto_offset_reset="earliest", **options) as consumer:
        assert (await consumer.getone()).value == b"sealed"


@pytest.mark.parametrize(
    "wrong",
    [{"password": "wrong"}, {"certificate_file": None, "key_file": None, "key_password": None}, {"ca_file": "client.pem"}],
    ids=["password", "no certificate of ours", "another authority"],
)
async def test_whoever_lacks_one_of_them_is_kept_out(secured: str, certificates: Path, wrong: dict[str, str | None]) -> None:
    if wrong.get("ca_file"):
        wrong = {"ca_file": str(certificates / "client.pem")}
    producer = AIOKafkaProducer(**kafka_client_options(settings(secured, certificates, **wrong)))
    try:
        with pytest.raises(KafkaError):
            await producer.start()
    finally:
        await producer.stop()
