"""Topics, keys and bytes of messages, and that schemas, table and broker settings follow from them."""

import base64
import json
import math
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from msgspec import Struct

from engine.effects import Decision, Refused
from engine.inputs import Message, Partial
from engine.reasons import Refusal
from streams.messages import (
    FRAME_BYTES_MAX,
    INTERNAL_DLQ,
    MESSAGE_BYTES_MAX,
    PARTIALS,
    SOURCES,
    TOPICS,
    PartialMessage,
    attestation_key,
    dead_letter,
    encode,
    encode_effect,
    encode_source,
    json_schemas,
    prefixed,
    topic_specs,
)
from streams.verify import parse_vaa
from tests.samples import FILL, HEALTH, NOW_NS, OUTPUT_MESSAGES, SOURCE_MESSAGES, VAA

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = [message for message in SOURCE_MESSAGES if isinstance(message, Message)]


def called(message: Struct) -> str:
    return type(message).__name__


# ---- bytes ----------------------------------------------------------------------------------------------------------------------------


def test_the_bytes_of_a_fill() -> None:
    assert encode(FILL) == (
        b'{"v":1,"account":"alice","venue":"binance","instrument":"BTC-PERP","kind":"trade","lots":-25,"price_ticks":1213205,'
        b'"cash":-1516,"sequence":7,"time_ns":1760130000000000000,"fill_id":"f-7","order_id":"o-1"}'
    )


@pytest.mark.parametrize("message", SOURCE_MESSAGES, ids=called)
def test_a_source_message_comes_back_as_it_was(message: Message | PartialMessage) -> None:
    topic, key, value = encode_source(message)
    assert msgspec.json.decode(value, type=SOURCES[topic].type) == message
    assert key
    assert len(key) <= 128


@pytest.mark.parametrize(
    ("topic", "key"),
    [
        ("oracle.prices", b"USDe"),
        ("market.volatility", b"BTC"),
        ("market.funding", b"binance"),
        ("market.instruments", b"BTC-PERP"),
        ("risk.parameters", b"main"),
        ("operator.commands", b"freeze"),
        ("chain.heartbeats", b"base"),
        ("chain.attestations", b"30/" + b"00" * 31 + b"07"),
        ("venue.fills", b"alice"),
        ("account.snapshots", b"alice"),
        ("account.orders", b"alice"),
        ("order.reports", b"alice"),
        (PARTIALS, b"3"),
    ],
)
def test_keys(topic: str, key: bytes) -> None:
    assert (topic, key) in {encode_source(message)[:2] for message in SOURCE_MESSAGES}


def test_an_emitter_is_read_where_the_verifier_reads_it() -> None:
    verified = parse_vaa(VAA)
    assert not isinstance(verified, str)
    assert attestation_key(VAA) == f"{verified.emitter_chain}/{verified.emitter_address.hex()}".encode()
    body = 6 + 66 * 2
    assert attestation_key(VAA[: body + 42]) == attestation_key(VAA)
    for length in (0, 5, 6, body, body + 41):
        with pytest.raises(ValueError, match="too few"):
            attestation_key(VAA[:length])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_never_written_as_null(bad: float) -> None:
    with pytest.raises(ValueError, match=r"Health\.equity_usd is"):
        encode(msgspec.structs.replace(HEALTH, equity_usd=bad))
    with pytest.raises(ValueError, match=r"Health\.requirement_usd\.isolated"):
        encode(msgspec.structs.replace(HEALTH, requirement_usd={"isolated": bad}))
    with pytest.raises(ValueError, match=r"spent_usd|partial\[3\]"):
        encode_effect(Partial(0, 0, 0, {"BTC": bad}, 0, []))


def test_what_has_no_value_is_null() -> None:
    assert b'"equity_usd":null' in encode(msgspec.structs.replace(HEALTH, equity_usd=None))


LOOKED_AT = ("risk.marks", "risk.chains", "risk.leverage", "pipeline.status")

# ---- effects --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effect", "topic", "key"),
    [
        *zip(
            OUTPUT_MESSAGES,
            ("orders.binance", "margin.calls", "account.health", "risk.breakers", *LOOKED_AT, "audit.decisions"),
            (b"alice", b"alice", b"alice", b"asset_move/BTC/3", b"USDe", b"base", b"USDe/3", b"book/3", b"alice"),
            strict=True,
        ),
        (Decision(outcome="freeze", account="", venue="okx", decided_ns=1), "audit.decisions", b"okx"),
        (Decision(outcome="mode", account="", decided_ns=1), "audit.decisions", b"all"),
        (Partial(3, 1, 1, {}, 0, []), PARTIALS, b"3"),
    ],
)
def test_where_effects_go(effect: Any, topic: str, key: bytes) -> None:
    assert encode_effect(effect)[:2] == (topic, key)


def test_a_partial_comes_back_as_it_was() -> None:
    partial = Partial(3, 100, NOW_NS, {"BTC": 0.1 + 0.2}, 2**62, [10, 2])
    assert msgspec.json.decode(encode_effect(partial)[2], type=PartialMessage) == PartialMessage(1, partial)


def test_refused_by_the_engine_and_by_ingest_are_the_same_kind_of_letter() -> None:
    event = msgspec.to_builtins(FILL)
    by_engine = encode_effect(
        Refused(topic="venue.fills", partition=2, offset=41, reason="unknown_instrument", detail="BTC-PERP", event=event)
    )
    by_ingest = encode_effect(dead_letter("venue.fills", 2, 41, b"alice", b"{", Refusal.BAD_JSON, "ends too soon"))

    assert by_engine[:2] == by_ingest[:2] == ("venue.fills.dlq", b"venue.fills/2/41")
    assert json.loads(by_engine[2]) == {
        "v": 1,
        "reason": "unknown_instrument",
        "detail": "BTC-PERP",
        "topic": "venue.fills",
        "partition": 2,
        "offset": 41,
        "key": None,
        "raw_base64": None,
        "raw_bytes": None,
        "event": event,
    }
    letter = json.loads(by_ingest[2])
    assert base64.b64decode(letter["raw_base64"]) == b"{"
    assert (letter["key"], letter["raw_bytes"], letter["event"]) == ("alice", 1, None)
    assert list(letter) == list(json.loads(by_engine[2]))


def test_a_reason_outside_the_closed_list_is_an_error() -> None:
    with pytest.raises(ValueError, match="not a valid Refusal"):
        encode_effect(Refused(topic="venue.fills", partition=0, offset=0, reason="odd", detail="", event={}))


def test_refused_words_between_machines_have_their_own_dead_letters() -> None:
    for origin in ("attestor", "treasury", PARTIALS):
        letter = Refused(topic=origin, partition=0, offset=3, reason="unknown_account", detail="", event={})
        assert encode_effect(letter)[:2] == (INTERNAL_DLQ, f"{origin}/0/3".encode())


def test_dead_letters_are_bounded() -> None:
    letter = dead_letter("venue.fills", 0, 0, b"\xff" * 10_000, b"x" * 10 * MESSAGE_BYTES_MAX, Refusal.TOO_LARGE, "655360 bytes")
    assert letter.raw_bytes == 10 * MESSAGE_BYTES_MAX
    assert letter.raw_base64 is not None
    assert base64.b64decode(letter.raw_base64) == b"x" * MESSAGE_BYTES_MAX
    assert letter.key is not None
    assert letter.key.startswith("\\xff\\xff")
    assert len(encode(letter)) < 100_000


# ---- schemas --------------------------------------------------------------------------------------------------------------------------


def schema_of(message: Struct) -> Draft202012Validator:
    """The validator of the topic that a sample goes to."""
    topic = encode_source(message)[0] if isinstance(message, Message) else encode_effect(message)[0]  # type: ignore[arg-type] # samples
    return Draft202012Validator(json_schemas()["orders" if topic.startswith("orders.") else "dlq" if topic.endswith(".dlq") else topic])


LETTER = dead_letter("venue.fills", 0, 1, b"alice", b"{", Refusal.BAD_JSON, "ends too soon")
SAMPLES = [*PUBLIC, *OUTPUT_MESSAGES, LETTER]


def test_there_is_a_valid_schema_for_each_public_topic_and_a_sample_for_each_schema() -> None:
    schemas = json_schemas()
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    public = {topic.name.removesuffix(".<venue>").removeprefix("<topic>.") for topic in TOPICS if topic.holds not in {"frames", "rows"}}
    assert set(schemas) == public - {PARTIALS}
    sampled = {encode_source(message)[0] for message in PUBLIC}
    assert sampled == set(SOURCES) - {PARTIALS}


@pytest.mark.parametrize("message", SAMPLES, ids=called)
def test_what_is_sent_is_valid_under_its_schema(message: Struct) -> None:
    schema_of(message).validate(json.loads(encode(message)))


@pytest.mark.parametrize("message", SAMPLES, ids=called)
def test_what_is_altered_is_not_valid_under_its_schema(message: Struct) -> None:
    validator = schema_of(message)
    good = json.loads(encode(message))
    required = {field.name for field in msgspec.structs.fields(message) if field.required}
    for name in required:
        assert not validator.is_valid({key: value for key, value in good.items() if key != name}), name
        assert not validator.is_valid({**good, name: [object]}), name
    assert required
    if isinstance(message, Message):
        assert not validator.is_valid({**good, "surprise": 1})
        assert not validator.is_valid({**good, "v": 2})


@pytest.mark.parametrize("message", PUBLIC, ids=called)
def test_schema_and_decoder_agree_on_altered_messages(message: Message) -> None:
    validator = schema_of(message)
    decoder = msgspec.json.Decoder(SOURCES[encode_source(message)[0]].type)
    good = json.loads(encode(message))
    replacements: tuple[Any, ...] = (
        None,
        True,
        -1,
        0,
        1,
        0.5,
        -0.5,
        2**63,
        "",
        "x",
        "x\n",
        "two words",
        "y" * 65,
        [],
        ["x"],
        [None],
        {},
        {"x": 1.5},
    )
    for name, replacement in ((name, replacement) for name in good for replacement in replacements):
        altered = {**good, name: replacement}
        try:
            decoder.decode(json.dumps(altered))
        except msgspec.ValidationError:
            accepted = False
        else:
            accepted = True
        assert accepted == validator.is_valid(altered), (name, replacement)


# ---- topics ---------------------------------------------------------------------------------------------------------------------------

SPECS = {
    spec.name: spec
    for spec in topic_specs(ledger_partitions=4, attest_partitions=2, venues=["okx", "binance", "okx"], replication=3, min_isr=2)
}


def test_every_topic_is_there_once() -> None:
    assert len(SPECS) == len(topic_specs(ledger_partitions=4, attest_partitions=2, venues=["okx", "binance"]))
    for source in SOURCES.values():
        assert SPECS[source.topic].partitions == {"control": 1, "ledger": 4, "attest.ledger": 2, "treasury.ledger": 1}[source.target]
        assert source.topic == PARTIALS or SPECS[f"{source.topic}.dlq"].partitions == 1
    assert {"orders.okx", "orders.binance", INTERNAL_DLQ, "control", "ledger.rows"} <= set(SPECS)
    assert {encode_effect(message)[0] for message in OUTPUT_MESSAGES} <= set(SPECS)
    assert all(re.fullmatch(r"[a-z0-9._-]{1,200}", name) for name in SPECS)


def test_kafka_never_times_a_record_by_what_its_producer_says() -> None:
    assert {spec.config["message.timestamp.type"] for spec in SPECS.values()} == {"LogAppendTime"}


def test_what_a_lost_record_would_break_is_replicated_and_never_elected_uncleanly() -> None:
    assert {spec.replication for spec in SPECS.values()} == {3}
    assert {spec.config["min.insync.replicas"] for spec in SPECS.values()} == {"2"}
    for name in ("ledger", "control", "attest.ledger", "treasury.ledger", "ledger.rows", "attest.rows", "treasury.rows", "orders.okx"):
        assert SPECS[name].config["unclean.leader.election.enable"] == "false"


def test_logs_are_kept_and_last_values_compacted() -> None:
    compacted = {name for name, spec in SPECS.items() if spec.config["cleanup.policy"] == "compact"}
    assert compacted == {"ledger.rows", "attest.rows", "treasury.rows", PARTIALS, "account.health", "risk.breakers", *LOOKED_AT}
    for name in ("control", "ledger", "attest.ledger", "treasury.ledger"):
        assert (SPECS[name].config["retention.ms"], SPECS[name].config["retention.bytes"]) == ("-1", "-1")
        assert int(SPECS[name].config["max.message.bytes"]) > FRAME_BYTES_MAX
    for name in ("ledger.rows", "attest.rows", "treasury.rows"):
        assert int(SPECS[name].config["min.compaction.lag.ms"]) >= 600_000


def test_the_settings_of_one_topic_can_be_changed_without_the_others() -> None:
    specs = topic_specs(ledger_partitions=1, attest_partitions=1, venues=["okx"])
    specs[0].config["retention.ms"] = "1"
    assert [spec.config.get("retention.ms") for spec in specs].count("1") == 1


def test_prefixed() -> None:
    assert prefixed("prod.", "venue.fills") == "prod.venue.fills"


# ---- the table ------------------------------------------------------------------------------------------------------------------------


def test_the_table_names_types_that_exist() -> None:
    known = {called(message) for message in [*SOURCE_MESSAGES, *OUTPUT_MESSAGES, LETTER]} | {"frames", "rows"}
    assert {name for topic in TOPICS for name in topic.holds.split(", ")} == known


def test_every_reason_is_explained() -> None:
    text = (ROOT / "docs/topics.md").read_text()
    assert [reason for reason in Refusal if f"| `{reason}` |" not in text] == []
