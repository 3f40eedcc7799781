"""Messages, transfers, guardian sets, emitters and sequences: what is accepted, and each reason for which something is not."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from engine import guardians, transfers
from engine.guardians import (
    MAX_EMITTERS,
    MAX_GUARDIAN_SETS,
    MAX_GUARDIANS,
    MAX_SKEW_NS,
    NS_PER_S,
    OVERLAP_NS,
    SEQUENCE_WINDOW,
    AnnouncementRefusal,
    AttestationRefusal,
    Emitters,
    GuardianSets,
    SequenceLedger,
    SequenceWindow,
    admit,
    check,
    quorum,
)
from engine.inputs import Attestation, ChainDefinition, GuardianSet, Name, VerifiedAttestation
from engine.transfers import INT_MAX, Direction, Transfer, TransferFault, decode_transfer, encode_transfer
from streams.verify import (
    VAA_MAX_BYTES,
    AttestationFault,
    encode_body,
    encode_vaa,
    guardian_address,
    parse_vaa,
    recover_signer,
    sign_vaa,
    synthetic_keys,
    verify,
)

KEYS = synthetic_keys("test", 7)
ADDRESSES = [guardian_address(key) for key in KEYS.values()]
QUORUM = {index: KEYS[index] for index in range(quorum(7))}
EMITTER = bytes(31) + b"\x07"
TRANSFER = Transfer("acc-1", "ethereum", "ETH", 250, Direction.CREDIT, 1)
CLOCK_NS = 1_760_000_000 * NS_PER_S
# The order of secp256k1's group: no r or s reaches it.
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
# A number r such that r + CURVE_ORDER is the x of a point, so that recovery ids 2 and 3 do recover a key.
RARE_R = 2
DOCUMENT = Path(__file__).parents[2] / "docs" / "attestations.md"


def announcement(index: int, addresses: list[bytes] = ADDRESSES, previous_expires_ns: int = 0) -> GuardianSet:
    return GuardianSet(
        v=1, by="test", time_ns=0, index=index, addresses=[address.hex() for address in addresses], previous_expires_ns=previous_expires_ns
    )


def chain(name: str = "ethereum", emitter_chain: int = 2, address: bytes = EMITTER) -> ChainDefinition:
    return ChainDefinition(
        v=1, time_ns=0, name=name, finality_s=900.0, messaging_delay_s=60.0, emitter_chain=emitter_chain, emitter_address=address.hex()
    )


def body(sequence: int = 1, transfer: Transfer = TRANSFER, emitter_chain: int = 2, timestamp_s: int = 1_760_000_000) -> bytes:
    return encode_body(
        timestamp_s=timestamp_s, emitter_chain=emitter_chain, emitter_address=EMITTER, sequence=sequence, payload=encode_transfer(transfer)
    )


def parsed(message: bytes) -> VerifiedAttestation:
    attestation = parse_vaa(message)
    assert isinstance(attestation, VerifiedAttestation)
    return attestation


def one_set() -> GuardianSets:
    sets = GuardianSets()
    assert sets.announce(announcement(3), CLOCK_NS) is None
    return sets


def signatures(keys: dict[int, bytes], signed: bytes) -> list[tuple[int, bytes]]:
    message = sign_vaa(keys, 3, signed)
    return [(message[at], message[at + 1 : at + 66]) for at in range(6, 6 + 66 * len(keys), 66)]


class TestMessage:
    def test_fields_and_signers(self) -> None:
        attestation = parsed(sign_vaa(QUORUM, 3, body(sequence=2**64 - 1)))
        assert attestation.guardian_set_index == 3
        assert attestation.signer_indexes == [0, 1, 2, 3, 4]
        assert attestation.signers == ADDRESSES[:5]
        assert (attestation.timestamp_s, attestation.emitter_chain, attestation.emitter_address) == (1_760_000_000, 2, EMITTER)
        assert attestation.sequence == 2**64 - 1
        assert decode_transfer(attestation.payload) == TRANSFER

    def test_address_of_a_published_key(self) -> None:
        # Private key 1 and its address are published in every Ethereum key tool's tests.
        assert guardian_address((1).to_bytes(32, "big")).hex() == "7e5f4552091a69125d5dfcb7b8c2659029395bdf"

    def test_the_same_arguments_give_the_same_bytes(self) -> None:
        assert sign_vaa(QUORUM, 3, body()) == sign_vaa(dict(reversed(QUORUM.items())), 3, body())

    def test_verify_is_what_ingest_uses(self) -> None:
        message = sign_vaa(QUORUM, 3, body())
        assert verify(Attestation(v=1, vaa=message.hex(), observed_time_ns=42)) == parse_vaa(message, 42)

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            (lambda message: message.hex()[:-1], AttestationFault.NOT_HEX),
            (lambda message: message[:5].hex(), AttestationFault.TOO_SHORT),
            (lambda message: (message + bytes(VAA_MAX_BYTES)).hex(), AttestationFault.TOO_LONG),
            (lambda message: (b"\x02" + message[1:]).hex(), AttestationFault.BAD_VERSION),
            (lambda message: (message[:5] + b"\x00" + message[6:]).hex(), AttestationFault.NO_SIGNATURES),
            (lambda message: (message[:5] + bytes([MAX_GUARDIANS + 1]) + message[6:]).hex(), AttestationFault.TOO_MANY_SIGNATURES),
            (lambda message: message[: 6 + 5 * 66 - 1].hex(), AttestationFault.SIGNATURES_TRUNCATED),
            (lambda message: message[: 6 + 5 * 66 + 50].hex(), AttestationFault.BODY_TRUNCATED),
            (lambda message: message[: 6 + 5 * 66 + 51].hex(), TransferFault.NOT_A_TRANSFER),
            (lambda message: (message + b"\x00").hex(), TransferFault.TRAILING_BYTES),
        ],
    )
    def test_each_fault(self, change: Callable[[bytes], str], fault: AttestationFault | TransferFault) -> None:
        assert verify(Attestation(v=1, vaa=change(sign_vaa(QUORUM, 3, body())), observed_time_ns=0)) is fault

    def test_a_message_without_payload_is_a_message(self) -> None:
        empty = encode_body(timestamp_s=0, emitter_chain=1, emitter_address=EMITTER, sequence=0, payload=b"")
        assert parsed(sign_vaa(QUORUM, 3, empty)).payload == b""

    @pytest.mark.parametrize(
        "signature",
        [
            bytes(65),  # r = s = 0
            b"\xff" * 64 + b"\x00",  # beyond the curve's order
            CURVE_ORDER.to_bytes(32, "big") * 2 + b"\x00",
            RARE_R.to_bytes(32, "big") + (1).to_bytes(32, "big") + b"\x02",  # recovery ids that the EVM doesn't take
            RARE_R.to_bytes(32, "big") + (1).to_bytes(32, "big") + b"\x03",
            b"\x01" * 64 + b"\x1b",
            b"\x01" * 64 + b"\xff",
        ],
    )
    def test_a_signature_that_is_nobodys_is_a_value(self, signature: bytes) -> None:
        assert recover_signer(bytes(32), signature) == b""
        attestation = parsed(encode_vaa(3, [(0, signature), *signatures(QUORUM, body())[1:]], body()))
        assert attestation.signers == [b"", *ADDRESSES[1:5]]
        assert check(attestation, one_set(), CLOCK_NS) is AttestationRefusal.UNRECOVERABLE_SIGNATURE

    def test_the_other_root_of_a_signature_is_the_same_message(self) -> None:
        """A high `s` is accepted as the EVM does; it cannot be a second message, because the digest is the same."""
        first, *others = signatures(QUORUM, body())
        r, s, recovery = first[1][:32], int.from_bytes(first[1][32:64], "big"), first[1][64]
        mirrored = r + (CURVE_ORDER - s).to_bytes(32, "big") + bytes([recovery ^ 1])
        again = parsed(encode_vaa(3, [(0, mirrored), *others], body()))
        original = parsed(sign_vaa(QUORUM, 3, body()))
        assert again == original

    def test_the_writer_refuses_what_cannot_be_a_message(self) -> None:
        with pytest.raises(ValueError, match="left-padded"):
            encode_body(timestamp_s=0, emitter_chain=1, emitter_address=b"\x01" * 20, sequence=0, payload=b"")
        with pytest.raises(ValueError, match="65 bytes"):
            encode_vaa(3, [(0, bytes(64))], body())


class TestTransfer:
    @pytest.mark.parametrize(
        "transfer",
        [
            TRANSFER,
            TRANSFER._replace(direction=Direction.DEBIT, lots=INT_MAX, number=INT_MAX),
            TRANSFER._replace(account="a" * 64, chain="b" * 64, asset="c" * 64),
        ],
    )
    def test_there_and_back(self, transfer: Transfer) -> None:
        assert decode_transfer(encode_transfer(transfer)) == transfer

    def test_delta(self) -> None:
        assert (TRANSFER.delta_lots, TRANSFER._replace(direction=Direction.DEBIT).delta_lots) == (250, -250)

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            (lambda payload: b"", TransferFault.NOT_A_TRANSFER),
            (lambda payload: b"plmt" + payload[4:], TransferFault.NOT_A_TRANSFER),
            (lambda payload: payload[:21], TransferFault.TRUNCATED),
            (lambda payload: payload[:22], TransferFault.TRUNCATED),
            (lambda payload: payload[:-1], TransferFault.TRUNCATED),
            (lambda payload: payload[:4] + b"\x02" + payload[5:], TransferFault.BAD_VERSION),
            (lambda payload: payload[:5] + b"\x00" + payload[6:], TransferFault.BAD_DIRECTION),
            (lambda payload: payload[:5] + b"\x03" + payload[6:], TransferFault.BAD_DIRECTION),
            (lambda payload: payload[:6] + bytes(8) + payload[14:], TransferFault.BAD_LOTS),
            (lambda payload: payload[:6] + b"\xff" * 8 + payload[14:], TransferFault.BAD_LOTS),
            (lambda payload: payload[:6] + (INT_MAX + 1).to_bytes(8, "big") + payload[14:], TransferFault.BAD_LOTS),
            (lambda payload: payload[:14] + bytes(8) + payload[22:], TransferFault.BAD_NUMBER),
            (lambda payload: payload[:22] + b"\x00" + payload[23:], TransferFault.BAD_NAME),
            (lambda payload: payload[:22] + b"\x41" + b"a" * 65 + payload[28:], TransferFault.BAD_NAME),
            (lambda payload: payload[:23] + b"\xff" + payload[24:], TransferFault.BAD_NAME),
            (lambda payload: payload[:23] + b"-" + payload[24:], TransferFault.BAD_NAME),
            (lambda payload: payload[:24] + b"\n" + payload[25:], TransferFault.BAD_NAME),
            (lambda payload: payload + b"\x00", TransferFault.TRAILING_BYTES),
        ],
    )
    def test_each_fault(self, change: Callable[[bytes], bytes], fault: TransferFault) -> None:
        assert decode_transfer(change(encode_transfer(TRANSFER))) is fault

    @pytest.mark.parametrize("bad", [{"lots": 0}, {"lots": -1}, {"lots": INT_MAX + 1}, {"number": 0}, {"account": ""}, {"asset": "é"}])
    def test_the_writer_refuses_what_the_reader_would(self, bad: dict[str, object]) -> None:
        with pytest.raises(ValueError, match=r"must be within|is no name"):
            encode_transfer(TRANSFER._replace(**bad))  # type: ignore[arg-type]  # one wrong field at a time, whichever it is

    def test_names_are_those_of_the_other_messages(self) -> None:
        meta = get_args(Name)[1]
        assert meta.pattern == rf"^{transfers._NAME.pattern.decode()}$(?!\n)"
        assert meta.max_length == transfers.NAME_MAX_BYTES


class TestCheck:
    @pytest.mark.parametrize(("guardian_count", "needed"), [(1, 1), (2, 2), (3, 3), (4, 3), (6, 5), (7, 5), (13, 9), (19, 13)])
    def test_quorum(self, guardian_count: int, needed: int) -> None:
        assert quorum(guardian_count) == needed
        assert 3 * needed > 2 * guardian_count

    def test_a_quorum_and_more_is_enough(self) -> None:
        assert check(parsed(sign_vaa(QUORUM, 3, body())), one_set(), CLOCK_NS) is None
        assert check(parsed(sign_vaa(KEYS, 3, body())), one_set(), CLOCK_NS) is None

    def test_each_refusal(self) -> None:
        signed = signatures(KEYS, body())
        stranger = signatures(synthetic_keys("somebody else", 7), body())
        for expected, given, at in [
            (AttestationRefusal.NO_QUORUM, signed[:4], 3),
            (AttestationRefusal.UNKNOWN_GUARDIAN_SET, signed, 4),
            (AttestationRefusal.SIGNATURES_NOT_ASCENDING, [*signed[:4], signed[3]], 3),
            (AttestationRefusal.SIGNATURES_NOT_ASCENDING, [signed[1], signed[0], *signed[2:]], 3),
            (AttestationRefusal.SIGNER_INDEX_OUT_OF_RANGE, [*signed[:5], (7, signed[6][1])], 3),
            (AttestationRefusal.WRONG_SIGNER, [*signed[:4], stranger[4]], 3),
            (AttestationRefusal.WRONG_SIGNER, [*signed[:5], stranger[5]], 3),  # also beyond the quorum
            (AttestationRefusal.WRONG_SIGNER, [*signed[:4], (5, signed[4][1])], 3),  # a guardian in another's name
        ]:
            assert check(parsed(encode_vaa(at, given, body())), one_set(), CLOCK_NS) is expected

    def test_another_body_under_the_same_signatures_is_refused(self) -> None:
        forged = encode_vaa(3, signatures(QUORUM, body()), body(transfer=TRANSFER._replace(lots=251)))
        assert check(parsed(forged), one_set(), CLOCK_NS) is AttestationRefusal.WRONG_SIGNER

    def test_a_message_may_be_ahead_of_the_clock_by_the_skew(self) -> None:
        attestation = parsed(sign_vaa(QUORUM, 3, body()))
        assert check(attestation, one_set(), CLOCK_NS - MAX_SKEW_NS) is None
        assert check(attestation, one_set(), CLOCK_NS - MAX_SKEW_NS - 1) is AttestationRefusal.FUTURE_TIME
        assert check(attestation, one_set(), CLOCK_NS - 1, max_skew_ns=0) is AttestationRefusal.FUTURE_TIME

    def test_a_replaced_set_counts_until_its_expiry(self) -> None:
        sets = one_set()
        attestation = parsed(sign_vaa(QUORUM, 3, body()))
        later = [guardian_address(key) for key in synthetic_keys("later", 4).values()]
        assert sets.announce(announcement(4, later), CLOCK_NS) is None
        assert check(attestation, sets, CLOCK_NS + OVERLAP_NS) is None
        assert check(attestation, sets, CLOCK_NS + OVERLAP_NS + 1) is AttestationRefusal.EXPIRED_GUARDIAN_SET
        # Brought forward, say because a guardian lost its key: at once.
        assert sets.announce(announcement(4, later, previous_expires_ns=CLOCK_NS), CLOCK_NS + 5) is None
        assert check(attestation, sets, CLOCK_NS + 5) is AttestationRefusal.EXPIRED_GUARDIAN_SET


class TestGuardianSets:
    def test_each_refusal_changes_nothing(self) -> None:
        sets = one_set()
        other = [guardian_address(key) for key in synthetic_keys("other", 3).values()]
        assert sets.announce(announcement(4, other, previous_expires_ns=CLOCK_NS + 9), CLOCK_NS) is None
        before = sets.to_data()
        for expected, new in [
            (AnnouncementRefusal.INVALID_GUARDIANS, announcement(5, [])),
            (AnnouncementRefusal.INVALID_GUARDIANS, announcement(5, [other[0], other[0]])),
            (AnnouncementRefusal.INVALID_GUARDIANS, announcement(5, [other[0], bytes(20)])),
            (AnnouncementRefusal.INVALID_GUARDIANS, announcement(5, [other[0][:19]])),
            (AnnouncementRefusal.INVALID_GUARDIANS, announcement(5, [index.to_bytes(20, "big") for index in range(1, MAX_GUARDIANS + 2)])),
            (AnnouncementRefusal.GUARDIANS_CHANGED, announcement(4, other[:2])),
            (AnnouncementRefusal.NOT_NEWEST, announcement(2, other)),
            (AnnouncementRefusal.EXPIRY_PUT_OFF, announcement(4, other, previous_expires_ns=CLOCK_NS + 10)),
        ]:
            assert sets.announce(new, CLOCK_NS) is expected
            assert sets.to_data() == before
        # Said again, in the same words or without the date: nothing new.
        assert sets.announce(announcement(4, other), CLOCK_NS + 77) is None
        assert sets.to_data() == before

    def test_bound(self) -> None:
        sets = GuardianSets()
        for index in range(MAX_GUARDIAN_SETS):
            assert sets.announce(announcement(index), CLOCK_NS) is None
        assert sets.announce(announcement(MAX_GUARDIAN_SETS), CLOCK_NS) is AnnouncementRefusal.TOO_MANY_SETS

    def test_there_and_back(self) -> None:
        sets = one_set()
        sets.announce(announcement(9, ADDRESSES[:3]), CLOCK_NS)
        data = msgspec.msgpack.decode(msgspec.msgpack.encode(sets.to_data()))
        assert GuardianSets.from_data(data).to_data() == sets.to_data()
        assert GuardianSets.from_data(data).get(3) == sets.get(3)


class TestEmitters:
    def test_one_chain_one_emitter(self) -> None:
        emitters = Emitters()
        assert emitters.define(chain()) is None
        assert emitters.chain(2, EMITTER) == "ethereum"
        assert emitters.chain(3, EMITTER) is None
        assert emitters.define(chain(name="base")) is AnnouncementRefusal.EMITTER_TAKEN
        assert emitters.define(chain(emitter_chain=5)) is None  # the contract moved: the old one no longer counts
        assert (emitters.chain(2, EMITTER), emitters.chain(5, EMITTER)) == (None, "ethereum")
        assert emitters.define(chain(name="base")) is None
        assert emitters.define(chain(address=bytes(32))) is None
        assert emitters.chain(5, EMITTER) is None
        assert emitters.to_data() == [["base", 2, EMITTER]]
        restored = Emitters.from_data(msgspec.msgpack.decode(msgspec.msgpack.encode(emitters.to_data())))
        assert restored.to_data() == emitters.to_data()
        assert restored.chain(2, EMITTER) == "base"

    def test_no_emitter_is_nobodys(self) -> None:
        emitters = Emitters()
        assert emitters.define(chain(address=bytes(32))) is None
        assert emitters.chain(2, bytes(32)) is None

    def test_bound(self) -> None:
        emitters = Emitters()
        for index in range(1, MAX_EMITTERS + 1):
            assert emitters.define(chain(name=f"chain-{index}", address=index.to_bytes(32, "big"))) is None
        assert emitters.define(chain(address=b"\x01" * 32)) is AnnouncementRefusal.TOO_MANY_CHAINS


class TestSequences:
    def test_once_replayed_or_equivocating(self) -> None:
        window = SequenceWindow()
        assert window.accept(5, b"a" * 32) is None
        assert window.accept(3, b"b" * 32) is None
        assert window.accept(5, b"a" * 32) is AttestationRefusal.REPLAYED
        assert window.accept(5, b"c" * 32) is AttestationRefusal.EQUIVOCATION
        assert window.accept(5, b"a" * 32) is AttestationRefusal.REPLAYED  # the refused one left no trace
        assert window.to_data() == [-1, [[3, b"b" * 32], [5, b"a" * 32]]]

    def test_the_window_is_bounded_and_older_ones_stay_refused(self) -> None:
        window = SequenceWindow()
        for sequence in range(SEQUENCE_WINDOW + 10):
            assert window.accept(sequence, bytes(32)) is None
        assert len(window) == SEQUENCE_WINDOW
        assert window.accept(9, bytes(32)) is AttestationRefusal.TOO_OLD
        assert window.accept(10, bytes(32)) is AttestationRefusal.REPLAYED

    def test_a_far_jump_does_not_shut_the_emitter_out(self) -> None:
        window = SequenceWindow()
        assert window.accept(2**64 - 1, bytes(32)) is None
        for sequence in range(2 * SEQUENCE_WINDOW):
            assert window.accept(sequence, bytes(32)) is None

    def test_a_late_one_below_a_full_window_counts_once(self) -> None:
        window = SequenceWindow()
        for sequence in range(100, 100 + SEQUENCE_WINDOW):
            window.accept(sequence, bytes(32))
        assert window.accept(50, bytes(32)) is None
        assert window.accept(50, bytes(32)) is AttestationRefusal.TOO_OLD
        assert window.accept(60, bytes(32)) is None

    def test_emitters_do_not_share_numbers_and_are_bounded(self) -> None:
        ledger = SequenceLedger()
        for index in range(MAX_EMITTERS):
            assert ledger.accept(index, EMITTER, 1, bytes(32)) is None
        assert ledger.accept(MAX_EMITTERS, EMITTER, 1, bytes(32)) is AttestationRefusal.TOO_MANY_EMITTERS
        assert ledger.accept(0, EMITTER, 2, bytes(32)) is None
        assert len(ledger.window(0, EMITTER)) == 2

    @pytest.mark.parametrize("data", [[5, [[5, b""]]], [-1, [[2, b""], [1, b""]]], [-1, [[n, b""] for n in range(SEQUENCE_WINDOW + 1)]]])
    def test_a_corrupt_window_is_not_restored(self, data: list[object]) -> None:
        with pytest.raises(ValueError, match="corrupt"):
            SequenceWindow.from_data(data)


class TestAdmit:
    def test_order_of_reasons_and_that_a_refusal_leaves_no_trace(self) -> None:
        sets, emitters, sequences = one_set(), Emitters(), SequenceLedger()
        genuine = parsed(sign_vaa(QUORUM, 3, body()))
        assert admit(genuine, TRANSFER, sets, emitters, sequences, CLOCK_NS) is AttestationRefusal.UNKNOWN_EMITTER
        emitters.define(chain())
        elsewhere = TRANSFER._replace(chain="base")
        on_base = parsed(sign_vaa(QUORUM, 3, body(transfer=elsewhere)))
        assert admit(on_base, elsewhere, sets, emitters, sequences, CLOCK_NS) is AttestationRefusal.WRONG_CHAIN
        forged = parsed(sign_vaa(synthetic_keys("forger", 5), 3, body()))
        assert admit(forged, TRANSFER, sets, emitters, sequences, CLOCK_NS) is AttestationRefusal.WRONG_SIGNER
        assert sequences.to_data() == []

        assert admit(genuine, TRANSFER, sets, emitters, sequences, CLOCK_NS) is None
        assert admit(genuine, TRANSFER, sets, emitters, sequences, CLOCK_NS) is AttestationRefusal.REPLAYED
        by_others = parsed(sign_vaa({index: KEYS[index] for index in range(2, 7)}, 3, body()))
        assert admit(by_others, TRANSFER, sets, emitters, sequences, CLOCK_NS) is AttestationRefusal.REPLAYED
        twice = TRANSFER._replace(lots=251)
        equivocating = parsed(sign_vaa(QUORUM, 3, body(transfer=twice)))
        assert admit(equivocating, twice, sets, emitters, sequences, CLOCK_NS) is AttestationRefusal.EQUIVOCATION


class TestDocument:
    """docs/attestations.md says what the code does."""

    @pytest.mark.parametrize("reasons", [AttestationFault, TransferFault, AttestationRefusal, AnnouncementRefusal])
    def test_reasons(self, reasons: type[transfers.Reason]) -> None:
        rows = [f"| `{reason}` | `{reason.refusal}` | {reason.meaning} |" for reason in reasons]
        table = "\n".join(["| reason | dead letter | when |", "|---|---|---|", *rows])
        assert f"\n{table}\n\n" in DOCUMENT.read_text() + "\n", f"the table of {reasons.__name__} must read:\n{table}"

    def test_example(self) -> None:
        example = re.search(r"```hex\n([0-9a-f\n ]+)```", DOCUMENT.read_text())
        assert example is not None
        assert decode_transfer(bytes.fromhex(example[1])) == TRANSFER

    def test_bounds(self) -> None:
        text = DOCUMENT.read_text()
        for name, bound in [
            ("MAX_GUARDIANS", guardians.MAX_GUARDIANS),
            ("MAX_GUARDIAN_SETS", guardians.MAX_GUARDIAN_SETS),
            ("MAX_EMITTERS", guardians.MAX_EMITTERS),
            ("SEQUENCE_WINDOW", guardians.SEQUENCE_WINDOW),
            ("VAA_MAX_BYTES", VAA_MAX_BYTES),
        ]:
            assert f"| `{name}` | {bound:,} |" in text, f"| `{name}` | {bound:,} |"
