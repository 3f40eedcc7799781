"""Wormhole's real messages against our decoder and our attestor's rules: genuine ones count while their set does, others never."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from engine.guardians import NS_PER_S, OVERLAP_NS, AttestationRefusal, GuardianSets, SequenceLedger, check, quorum
from engine.inputs import GuardianSet, VerifiedAttestation
from streams.verify import AttestationFault, parse_vaa
from tests.reference.case import CaseResult

FAMILY = "wormhole"
CARRIED = Path(__file__).parent / "data"

# A guardian set upgrade is a governance message of the core contract: module "Core", action 2, for all chains.
_CORE_MODULE = b"Core".rjust(32, b"\0")
_UPGRADE = 2

# What is wrong with signatures, of a message that says it has enough of them.
_FORGED = frozenset(
    {
        AttestationRefusal.SIGNATURES_NOT_ASCENDING,
        AttestationRefusal.SIGNER_INDEX_OUT_OF_RANGE,
        AttestationRefusal.UNRECOVERABLE_SIGNATURE,
        AttestationRefusal.WRONG_SIGNER,
    }
)


def families() -> dict[str, Callable[[Path | None], list[CaseResult]]]:
    """What this module can check, by the name its files begin with."""
    return {FAMILY: run}


def run(folder: Path | None) -> list[CaseResult]:
    """Every message found under `folder` (the layout of the reference data), or of the few carried here."""
    crosschain = (folder or CARRIED) / "crosschain"
    announcements = _announcements(json.loads((crosschain / "wormhole_guardian_sets.json").read_text()))
    valid = json.loads((crosschain / "wormhole_vaas_valid.json").read_text())
    rejected = json.loads((crosschain / "wormhole_vaas_reject.json").read_text())
    results = []
    for sample in valid:
        fault = _genuine(sample, announcements)
        results.append(_case(sample, "counts while its set does", fault))
        if fault is not None:
            continue
        results.append(_case(sample, "is refused by its set's expiry", _expiry(sample, announcements)))
        if _new_set(_message(sample)) is not None:
            results.append(_case(sample, "announces the next set", _upgrade(sample, announcements)))
    results += [_case(sample, "is refused", _refused(sample, announcements)) for sample in rejected]
    results.append(CaseResult(FAMILY, "all genuine messages, twice", *_twice(valid)))
    return results


def sets_at(announcements: list[GuardianSet], index: int) -> GuardianSets:
    """The guardian sets as they stood while set `index` was the current one."""
    sets = GuardianSets()
    for announcement in announcements[: index + 1]:
        refusal = sets.announce(announcement, clock_ns=0)
        assert refusal is None, f"the published guardian set {announcement.index} was not taken: {refusal}"
    return sets


def _announcements(published: dict[str, Any]) -> list[GuardianSet]:
    """One announcement for each set, in order, with the end of the set before it: a day after the upgrade message's time."""
    took_over_s = {link["new_set"]: link["timestamp"] for link in published["chain_of_trust"]}
    return [
        GuardianSet(
            v=1,
            by="reference",
            time_ns=0,
            index=index,
            addresses=[address.removeprefix("0x") for address in published["sets"][str(index)]],
            previous_expires_ns=took_over_s[index] * NS_PER_S + OVERLAP_NS if index else 0,
        )
        for index in range(len(published["sets"]))
    ]


def _genuine(sample: dict[str, Any], announcements: list[GuardianSet]) -> str | None:
    attestation = parse_vaa(_message(sample))
    if not isinstance(attestation, VerifiedAttestation):
        return f"could not be read: {attestation}"
    if attestation.guardian_set_index >= len(announcements):
        return f"its guardian set {attestation.guardian_set_index} is not among the published ones"
    if sha256(_message(sample)).hexdigest() != sample["sha256"]:
        return "the sample itself is damaged: its hash is another one"
    found = {
        "guardian_set": attestation.guardian_set_index,
        "signatures": len(attestation.signers),
        "timestamp": attestation.timestamp_s,
        "emitter_chain": attestation.emitter_chain,
        "emitter": "0x" + attestation.emitter_address.hex(),
        "sequence": str(attestation.sequence),
        "payload_hex": "0x" + attestation.payload.hex(),
        "valid_signatures": _valid_signatures(attestation, announcements),
        "quorum": quorum(len(announcements[attestation.guardian_set_index].addresses)),
    }
    apart = [f"{field} is {value}, not {sample[field]}" for field, value in found.items() if value != sample[field]]
    if apart:
        return "; ".join(apart)
    sets = sets_at(announcements, attestation.guardian_set_index)
    refusal = check(attestation, sets, attestation.timestamp_s * NS_PER_S)
    return None if refusal is None else f"was refused: {refusal}"


def _expiry(sample: dict[str, Any], announcements: list[GuardianSet]) -> str | None:
    """The last instant of a set's life and the first after it, once the next set is known."""
    attestation = _parsed(sample)
    index = attestation.guardian_set_index
    if index + 1 == len(announcements):
        refusal = check(attestation, sets_at(announcements, index), 2**62)
        return None if refusal is None else f"the current set does not expire, yet: {refusal}"
    sets = sets_at(announcements, index + 1)
    expiry_ns = announcements[index + 1].previous_expires_ns
    last = check(attestation, sets, expiry_ns)
    beyond = check(attestation, sets, expiry_ns + 1)
    if last is None and beyond is AttestationRefusal.EXPIRED_GUARDIAN_SET:
        return None
    return f"at the expiry: {last or 'accepted'}; one nanosecond later: {beyond or 'accepted'}"


def _upgrade(sample: dict[str, Any], announcements: list[GuardianSet]) -> str | None:
    new = _new_set(_message(sample))
    assert new is not None
    index, addresses = new
    published = [bytes.fromhex(address) for address in announcements[index].addresses]
    return None if addresses == published else f"set {index} as announced on chain is not the published one"


def _refused(sample: dict[str, Any], announcements: list[GuardianSet]) -> str | None:
    """Refused, and for what is wrong with it: too few signatures, or wrong ones, as many as the sample says; or a set that nobody knows."""
    attestation = parse_vaa(_message(sample))
    if attestation is AttestationFault.NO_SIGNATURES and sample["signatures"] == 0:
        return None
    if not isinstance(attestation, VerifiedAttestation):
        return f"could not be read, but its signatures are what is wrong with it: {attestation}"
    if attestation.guardian_set_index >= len(announcements):
        refusal = check(attestation, sets_at(announcements, len(announcements)), attestation.timestamp_s * NS_PER_S)
        return None if refusal is AttestationRefusal.UNKNOWN_GUARDIAN_SET else f"its set is not known, yet: {refusal or 'accepted'}"
    found = _valid_signatures(attestation, announcements)
    if found != sample["valid_signatures"]:
        return f"{found} signatures are valid, not {sample['valid_signatures']}"
    refusal = check(attestation, sets_at(announcements, attestation.guardian_set_index), attestation.timestamp_s * NS_PER_S)
    fitting = {AttestationRefusal.NO_QUORUM} if sample["signatures"] < sample["quorum"] else _FORGED
    return None if refusal in fitting else f"expected {' or '.join(sorted(fitting))}, got {refusal or 'accepted'}"


def _twice(samples: list[dict[str, Any]]) -> tuple[bool, str]:
    """Each message is accepted once, whichever set signed it (some were signed anew by the next set)."""
    sequences = SequenceLedger()
    accepted: set[bytes] = set()
    for sample in samples * 2:
        attestation = _parsed(sample)
        refusal = sequences.accept(attestation.emitter_chain, attestation.emitter_address, attestation.sequence, attestation.digest)
        expected = AttestationRefusal.REPLAYED if attestation.digest in accepted else None
        if refusal is not expected:
            return False, f"{sample['sha256'][:8]}: expected {expected or 'accepted'}, got {refusal or 'accepted'}"
        accepted.add(attestation.digest)
    return True, f"{len(accepted)} messages accepted once each"


def _valid_signatures(attestation: VerifiedAttestation, announcements: list[GuardianSet]) -> int:
    guardians = dict(enumerate(announcements[attestation.guardian_set_index].addresses))
    pairs = zip(attestation.signer_indexes, attestation.signers, strict=True)
    return len({index for index, signer in pairs if guardians.get(index) == signer.hex()})


def _new_set(message: bytes) -> tuple[int, list[bytes]] | None:
    """Index and addresses of the set that an upgrade message announces; None if it is another message."""
    attestation = parse_vaa(message)
    assert isinstance(attestation, VerifiedAttestation)
    payload = attestation.payload
    if payload[:32] != _CORE_MODULE or payload[32] != _UPGRADE:
        return None
    addresses = payload[40:]
    assert len(addresses) == 20 * payload[39]
    return int.from_bytes(payload[35:39], "big"), [addresses[at : at + 20] for at in range(0, len(addresses), 20)]


def _message(sample: dict[str, Any]) -> bytes:
    return bytes.fromhex(sample["hex"].removeprefix("0x"))


def _parsed(sample: dict[str, Any]) -> VerifiedAttestation:
    attestation = parse_vaa(_message(sample))
    assert isinstance(attestation, VerifiedAttestation), f"{sample['sha256'][:8]} could not be read: {attestation}"
    return attestation


def _case(sample: dict[str, Any], what: str, fault: str | None) -> CaseResult:
    name = f"{sample['sha256'][:8]} (set {sample['guardian_set']}) {what}"
    return CaseResult(FAMILY, name, fault is None, fault or "as expected")
