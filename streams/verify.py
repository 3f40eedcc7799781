"""Reads signed messages (Wormhole VAAs, version 1) and recovers who signed them; writes and signs them for tests and demonstrations.

Stateless, and the costly half of attestation: 46 us a signature. Whether the signers may sign is decided by `engine.guardians`.
Layout of a VAA: Wormhole whitepaper 0001 and `parseVM` in Messages.sol; docs/attestations.md shows it together with our payload.
"""

import struct
from collections.abc import Mapping, Sequence

from coincurve import PrivateKey, PublicKey
from eth_hash.backends.pycryptodome import keccak256

from engine.guardians import EMITTER_BYTES, MAX_GUARDIANS
from engine.inputs import Attestation, VerifiedAttestation
from engine.reasons import Refusal
from engine.transfers import Reason, TransferFault, decode_transfer

VAA_VERSION = 1
VAA_MAX_BYTES = 8_192  # what `chain.attestations` lets through, in hex
SIGNATURE_BYTES = 65  # r, s, recovery id

_HEADER = struct.Struct(">BIB")  # version, guardian set, number of signatures
_SLOT = struct.Struct(f">B{SIGNATURE_BYTES}s")  # guardian index, signature
_BODY = struct.Struct(f">IIH{EMITTER_BYTES}sQB")  # time, nonce, emitter's chain and address, sequence, consistency level


class AttestationFault(Reason):
    """What the bytes of a message alone show to be wrong with it."""

    NOT_HEX = "not_hex", Refusal.WRONG_TYPE, "the message has an odd number of hexadecimal digits"
    TOO_SHORT = "too_short", Refusal.BAD_PAYLOAD, "the message ends within its header"
    TOO_LONG = "too_long", Refusal.OUT_OF_RANGE, f"the message is longer than {VAA_MAX_BYTES} bytes"
    BAD_VERSION = "bad_version", Refusal.UNKNOWN_VERSION, f"the message is not of version {VAA_VERSION}"
    NO_SIGNATURES = "no_signatures", Refusal.BAD_SIGNATURE, "the message says that it has no signature"
    TOO_MANY_SIGNATURES = "too_many_signatures", Refusal.BAD_SIGNATURE, f"the message says that it has more than {MAX_GUARDIANS} signatures"
    SIGNATURES_TRUNCATED = "signatures_truncated", Refusal.BAD_SIGNATURE, "the message ends within its signatures"
    BODY_TRUNCATED = "body_truncated", Refusal.BAD_PAYLOAD, "the message ends within the fixed part of its body"


def verify(attestation: Attestation) -> VerifiedAttestation | AttestationFault | TransferFault:
    """What ingest does with one message of `chain.attestations`: decode it, with its signers, or say what is wrong with it.

    Only messages whose payload is one of our transfers are worth their signatures' recovery.
    """
    try:
        message = bytes.fromhex(attestation.vaa)
    except ValueError:  # an odd number of digits gets past the schema
        return AttestationFault.NOT_HEX
    layout = _layout(message)
    if isinstance(layout, AttestationFault):
        return layout
    transfer = decode_transfer(message[layout + _BODY.size :])
    if isinstance(transfer, TransferFault):
        return transfer
    return parse_vaa(message, attestation.observed_time_ns)


def parse_vaa(message: bytes, observed_time_ns: int = 0) -> VerifiedAttestation | AttestationFault:
    """Decodes a message and recovers the address behind each signature. The payload is all that follows the body's fixed part.

    A signature that is nobody's yields an empty signer: whether that matters depends on the guardian set. As the EVM's `ecrecover` does,
    recovery ids 2 and 3 are refused and high `s` values are not: a message is known by its digest, never by its signatures.
    """
    body_at = _layout(message)
    if isinstance(body_at, AttestationFault):
        return body_at
    _, guardian_set_index, _ = _HEADER.unpack_from(message)
    slots = list(_SLOT.iter_unpack(message[_HEADER.size : body_at]))
    body = message[body_at:]
    digest = body_digest(body)
    timestamp_s, _, emitter_chain, emitter_address, sequence, _ = _BODY.unpack_from(body)
    return VerifiedAttestation(
        guardian_set_index=guardian_set_index,
        signer_indexes=[index for index, _ in slots],
        signers=[recover_signer(digest, signature) for _, signature in slots],
        digest=digest,
        timestamp_s=timestamp_s,
        emitter_chain=emitter_chain,
        emitter_address=emitter_address,
        sequence=sequence,
        payload=body[_BODY.size :],
        observed_time_ns=observed_time_ns,
    )


def body_digest(body: bytes) -> bytes:
    """What guardians sign: keccak-256 of the keccak-256 of the body, 32 bytes."""
    return bytes(keccak256(keccak256(body)))


def recover_signer(digest: bytes, signature: bytes) -> bytes:
    """The 20-byte address that made a 65-byte recoverable signature of a 32-byte digest; empty when it is nobody's."""
    if signature[-1] > 1:
        return b""
    try:
        return _address(PublicKey.from_signature_and_message(signature, digest, hasher=None))
    except ValueError:  # coincurve's way of saying that no key made it
        return b""


def encode_body(
    *,
    timestamp_s: int,
    emitter_chain: int,
    emitter_address: bytes,
    sequence: int,
    payload: bytes,
    nonce: int = 0,
    consistency_level: int = 0,
) -> bytes:
    """The part of a message that is signed; ValueError or struct.error where a field does not fit."""
    if len(emitter_address) != EMITTER_BYTES:
        raise ValueError(f"an emitter's address is {EMITTER_BYTES} bytes (left-padded), not {len(emitter_address)}")
    return _BODY.pack(timestamp_s, nonce, emitter_chain, emitter_address, sequence, consistency_level) + payload


def encode_vaa(guardian_set_index: int, signatures: Sequence[tuple[int, bytes]], body: bytes) -> bytes:
    """A message from (guardian index, 65-byte signature) pairs, taken as they are: also wrong ones, for tests."""
    if any(len(signature) != SIGNATURE_BYTES for _, signature in signatures):
        raise ValueError(f"a signature is {SIGNATURE_BYTES} bytes")
    slots = b"".join(_SLOT.pack(index, signature) for index, signature in signatures)
    return _HEADER.pack(VAA_VERSION, guardian_set_index, len(signatures)) + slots + body


def sign_vaa(private_keys: Mapping[int, bytes], guardian_set_index: int, body: bytes) -> bytes:
    """A message signed by the guardians whose private keys are given by index: the same arguments give the same bytes (RFC 6979)."""
    digest = body_digest(body)
    signatures = [(index, bytes(PrivateKey(private_keys[index]).sign_recoverable(digest, hasher=None))) for index in sorted(private_keys)]
    return encode_vaa(guardian_set_index, signatures, body)


def guardian_address(private_key: bytes) -> bytes:
    """The address under which a private key's signatures are recovered."""
    return _address(PrivateKey(private_key).public_key)


def synthetic_keys(label: str, count: int) -> dict[int, bytes]:
    """Private keys that anybody can compute from `label`, for tests and demonstrations: never for anything of value."""
    return {index: bytes(keccak256(f"synthetic guardian {label} {index}".encode())) for index in range(count)}


def _layout(message: bytes) -> int | AttestationFault:
    """Where the body begins, once it is sure that all fixed parts are there."""
    if len(message) < _HEADER.size:
        return AttestationFault.TOO_SHORT
    if len(message) > VAA_MAX_BYTES:
        return AttestationFault.TOO_LONG
    version, _, count = _HEADER.unpack_from(message)
    if version != VAA_VERSION:
        return AttestationFault.BAD_VERSION
    if count == 0:
        return AttestationFault.NO_SIGNATURES
    if count > MAX_GUARDIANS:
        return AttestationFault.TOO_MANY_SIGNATURES
    body_at = _HEADER.size + int(count) * _SLOT.size
    if len(message) < body_at:
        return AttestationFault.SIGNATURES_TRUNCATED
    if len(message) < body_at + _BODY.size:
        return AttestationFault.BODY_TRUNCATED
    return body_at


def _address(public_key: PublicKey) -> bytes:
    return bytes(keccak256(public_key.format(compressed=False)[1:])[-20:])
