"""The carried Wormhole messages, each as a test of its own, and what happens to them when a bit is changed."""

import json

import pytest

from engine.guardians import NS_PER_S, check
from engine.inputs import VerifiedAttestation
from streams.verify import parse_vaa
from tests.reference import wormhole
from tests.reference.case import CaseResult

RESULTS = wormhole.run(None)
VALID = json.loads((wormhole.CARRIED / "crosschain" / "wormhole_vaas_valid.json").read_text())
ANNOUNCEMENTS = wormhole._announcements(json.loads((wormhole.CARRIED / "crosschain" / "wormhole_guardian_sets.json").read_text()))


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: result.case)
def test_agrees(result: CaseResult) -> None:
    assert result.passed, result.detail


def test_carried_cases_cover_both_kinds() -> None:
    kinds = {kind: sum(result.case.endswith(kind) for result in RESULTS) for kind in ("counts while its set does", "is refused")}
    assert kinds == {"counts while its set does": 6, "is refused": 5}


@pytest.mark.parametrize("sample", VALID, ids=lambda sample: sample["sha256"][:8])
def test_a_changed_bit_anywhere_in_signatures_or_body_is_refused(sample: dict[str, str]) -> None:
    genuine = bytes.fromhex(sample["hex"].removeprefix("0x"))
    sets = wormhole.sets_at(ANNOUNCEMENTS, genuine[4])
    clock_ns = 2**32 * NS_PER_S  # later than any time that a message can state, so that only the signatures speak
    attestation = parse_vaa(genuine)
    assert isinstance(attestation, VerifiedAttestation)
    assert check(attestation, sets, clock_ns) is None
    for at in range(5, len(genuine), 7):
        changed = bytearray(genuine)
        changed[at] ^= 1 << (at % 8)
        attestation = parse_vaa(bytes(changed))
        accepted = isinstance(attestation, VerifiedAttestation) and check(attestation, sets, clock_ns) is None
        assert not accepted, f"byte {at}"


def test_whatever_is_wrong_with_signatures_is_a_right_refusal() -> None:
    """Each slot is an index and 65 bytes after a header of 6: the slots turned round, a guardian that is not there, none, another set."""
    sample = VALID[0]
    genuine = bytes.fromhex(sample["hex"].removeprefix("0x"))
    count, body = genuine[5], genuine[6 + 66 * genuine[5] :]
    slots = [genuine[at : at + 66] for at in range(6, 6 + 66 * count, 66)]
    forged = {"signatures": count, "quorum": 13}
    for head, signatures, said in (
        (genuine[:6], slots[::-1], forged | {"valid_signatures": count}),
        (genuine[:6], [*slots[:-1], b"\x13" + slots[-1][1:]], forged | {"valid_signatures": count - 1}),
        (genuine[:5] + b"\0", [], {"signatures": 0, "quorum": 13, "valid_signatures": 0}),
        (genuine[:1] + b"\0\0\0\x63" + genuine[5:6], slots, forged | {"valid_signatures": 0}),
    ):
        other = said | {"hex": "0x" + (head + b"".join(signatures) + body).hex()}
        assert wormhole._refused(other, ANNOUNCEMENTS) is None
        assert wormhole._genuine(sample | other, ANNOUNCEMENTS) is not None


def test_a_damaged_fact_is_noticed() -> None:
    """The comparison itself can fail: a sample with another sequence, or one that is called genuine and isn't."""
    other = VALID[0] | {"sequence": "1"}
    assert "sequence" in str(wormhole._genuine(other, ANNOUNCEMENTS))
    rejected = json.loads((wormhole.CARRIED / "crosschain" / "wormhole_vaas_reject.json").read_text())
    assert wormhole._genuine(rejected[0], ANNOUNCEMENTS) is not None
    assert wormhole._refused(VALID[0], ANNOUNCEMENTS) is not None
