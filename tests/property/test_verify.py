"""Whatever the bytes, and in whatever order messages come: no exception, one encoding, each message at most once."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.guardians import SEQUENCE_WINDOW, AttestationRefusal, GuardianSets, SequenceLedger, SequenceWindow, check, quorum
from engine.inputs import Attestation, GuardianSet, VerifiedAttestation
from engine.transfers import INT_MAX, Direction, Transfer, TransferFault, decode_transfer, encode_transfer
from streams.verify import AttestationFault, encode_body, encode_vaa, guardian_address, parse_vaa, sign_vaa, synthetic_keys, verify

KEYS = synthetic_keys("property", 4)
ADDRESSES = [guardian_address(key) for key in KEYS.values()]
CLOCK_NS = 2**62

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,63}", fullmatch=True)
positive = st.integers(1, INT_MAX)
transfers = st.builds(Transfer, names, names, names, positive, st.sampled_from(Direction), positive)
bodies = st.builds(
    encode_body,
    timestamp_s=st.integers(0, 2**32 - 1),
    emitter_chain=st.integers(0, 2**16 - 1),
    emitter_address=st.binary(min_size=32, max_size=32),
    sequence=st.integers(0, 2**64 - 1),
    payload=st.one_of(transfers.map(encode_transfer), st.binary(max_size=80)),
    nonce=st.integers(0, 2**32 - 1),
    consistency_level=st.integers(0, 255),
)


def sets() -> GuardianSets:
    announced = GuardianSets()
    announced.announce(GuardianSet(v=1, by="test", time_ns=0, index=0, addresses=[address.hex() for address in ADDRESSES]), 0)
    return announced


@given(transfers)
def test_a_transfer_comes_back(transfer: Transfer) -> None:
    assert decode_transfer(encode_transfer(transfer)) == transfer


@given(transfers, st.data())
def test_a_changed_transfer_is_refused_or_another_transfer_in_its_one_encoding(transfer: Transfer, data: st.DataObject) -> None:
    payload = bytearray(encode_transfer(transfer))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] ^= data.draw(st.integers(1, 255))
    changed = decode_transfer(bytes(payload))
    if not isinstance(changed, TransferFault):
        assert changed != transfer
        assert encode_transfer(changed) == bytes(payload)


@given(transfers, st.data())
def test_a_cut_or_lengthened_transfer_is_refused(transfer: Transfer, data: st.DataObject) -> None:
    payload = encode_transfer(transfer)
    shorter = payload[: data.draw(st.integers(0, len(payload) - 1))]
    longer = payload + data.draw(st.binary(min_size=1, max_size=8))
    assert isinstance(decode_transfer(shorter), TransferFault)
    assert decode_transfer(longer) is TransferFault.TRAILING_BYTES


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=120).map(lambda rest: b"PLMT\x01\x01" + rest)))
def test_any_bytes_as_a_transfer_give_a_value(payload: bytes) -> None:
    transfer = decode_transfer(payload)
    if not isinstance(transfer, TransferFault):
        assert encode_transfer(transfer) == payload


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=500), st.binary(max_size=500).map(lambda rest: b"\x01\x00\x00\x00\x00\x02" + rest)))
def test_any_bytes_as_a_message_give_a_value_and_never_a_quorum(message: bytes) -> None:
    attestation = parse_vaa(message)
    if isinstance(attestation, AttestationFault):
        assert isinstance(verify(Attestation(v=1, vaa=message.hex(), observed_time_ns=0)), AttestationFault)
    else:
        assert check(attestation, sets(), CLOCK_NS) is not None


@settings(deadline=None)
@given(bodies, st.sets(st.integers(0, 3), min_size=1))
def test_it_counts_exactly_when_a_quorum_signed(body: bytes, signing: set[int]) -> None:
    attestation = parse_vaa(sign_vaa({index: KEYS[index] for index in signing}, 0, body))
    assert isinstance(attestation, VerifiedAttestation)
    assert attestation.signers == [ADDRESSES[index] for index in sorted(signing)]
    expected = None if len(signing) >= quorum(4) else AttestationRefusal.NO_QUORUM
    assert check(attestation, sets(), CLOCK_NS) is expected


@settings(deadline=None)
@given(bodies, st.data())
def test_a_changed_bit_of_the_body_takes_every_signature_away(body: bytes, data: st.DataObject) -> None:
    message = sign_vaa(KEYS, 0, body)
    changed = bytearray(body)
    changed[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    slots = [(message[at], message[at + 1 : at + 66]) for at in range(6, 6 + 4 * 66, 66)]
    attestation = parse_vaa(encode_vaa(0, slots, bytes(changed)))
    assert isinstance(attestation, VerifiedAttestation)
    assert not set(attestation.signers) & set(ADDRESSES)


# Numbers close together, so that replays, equivocations and a full window all come up.
arrivals = st.lists(st.tuples(st.integers(0, 40), st.sampled_from([b"a", b"b"])), max_size=120)


@given(arrivals, st.integers(1, 12))
def test_the_window_against_a_plain_model(events: list[tuple[int, bytes]], size: int) -> None:
    """The model remembers everything for ever; the window may differ from it only by saying `too_old`, and only below its floor."""
    window, model = SequenceWindow(size), dict[int, bytes]()
    for sequence, digest in events:
        kept = sorted(model)[-size:] if len(model) >= size else []
        refusal = window.accept(sequence, digest)
        if sequence in model and (not kept or sequence >= kept[0]):
            assert refusal is (AttestationRefusal.REPLAYED if model[sequence] == digest else AttestationRefusal.EQUIVOCATION)
        elif refusal is None:
            assert sequence not in model
            model[sequence] = digest
        else:
            assert refusal is AttestationRefusal.TOO_OLD
            assert kept
            assert sequence < kept[0]
        assert len(window) == min(len(model), size)
        assert SequenceWindow.from_data(window.to_data()).to_data() == window.to_data()


@given(st.dictionaries(st.integers(0, 2**64 - 1), st.binary(min_size=32, max_size=32), max_size=50), st.data())
def test_the_same_messages_in_any_order_leave_the_same_bytes(messages: dict[int, bytes], data: st.DataObject) -> None:
    assert len(messages) <= SEQUENCE_WINDOW
    encoded = []
    for order in (list(messages), data.draw(st.permutations(list(messages)))):
        ledger = SequenceLedger()
        for sequence in order:
            assert ledger.accept(sequence % 3, bytes(32), sequence, messages[sequence]) is None
        encoded.append(msgspec.msgpack.encode(ledger.to_data()))
        assert msgspec.msgpack.encode(SequenceLedger.from_data(msgspec.msgpack.decode(encoded[-1])).to_data()) == encoded[-1]
    assert encoded[0] == encoded[1]
