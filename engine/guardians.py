"""Decides whether a signed attestation counts: guardian sets and their quorum, registered emitters, sequence numbers.

Everything here is a function of its arguments. Signers are recovered elsewhere (`streams.verify`), because that is costly and needs no
state; what needs state is decided here, in the order of the attestor's log, on that log's clock.
"""

import bisect
from typing import Any, NamedTuple, Self

from engine.inputs import ChainDefinition, VerifiedAttestation
from engine.inputs import GuardianSet as Announcement
from engine.reasons import Refusal
from engine.transfers import Reason, Transfer

NS_PER_S = 1_000_000_000
EMITTER_BYTES = 32

# Bounds. A message costs one signature recovery a signer, so the number of guardians bounds what a hostile message may cost.
MAX_GUARDIANS = 64
MAX_GUARDIAN_SETS = 256
MAX_EMITTERS = 1_024
SEQUENCE_WINDOW = 1_024

# A set that has been replaced goes on for a day, as Wormhole's core contract lets it, so that messages under way still arrive.
OVERLAP_NS = 86_400 * NS_PER_S
# How far a message's own time may lie beyond the clock.
MAX_SKEW_NS = 5 * NS_PER_S


class AttestationRefusal(Reason):
    """Why an attestation that could be read is not believed."""

    UNKNOWN_GUARDIAN_SET = "unknown_guardian_set", Refusal.UNKNOWN_GUARDIAN_SET, "it names a guardian set that was never announced"
    EXPIRED_GUARDIAN_SET = "expired_guardian_set", Refusal.EXPIRED_GUARDIAN_SET, "its guardian set was replaced and the overlap is over"
    FUTURE_TIME = "future_time", Refusal.FUTURE_TIME, "its own time lies beyond the clock by more than the skew allowed"
    NO_QUORUM = "no_quorum", Refusal.NO_QUORUM, "it has fewer signatures than floor(2n/3) + 1 of the set's n guardians"
    SIGNATURES_NOT_ASCENDING = (
        "signatures_not_ascending",
        Refusal.BAD_SIGNATURE,
        "guardian indexes do not strictly rise, so that one guardian might count twice",
    )
    SIGNER_INDEX_OUT_OF_RANGE = "signer_index_out_of_range", Refusal.WRONG_SIGNER, "a signature names a guardian that the set does not have"
    UNRECOVERABLE_SIGNATURE = "unrecoverable_signature", Refusal.BAD_SIGNATURE, "a signature is nobody's"
    WRONG_SIGNER = "wrong_signer", Refusal.WRONG_SIGNER, "a signature is somebody else's than the guardian's it names"
    UNKNOWN_EMITTER = (
        "unknown_emitter",
        Refusal.UNKNOWN_EMITTER,
        "genuine, but of a contract that speaks for no chain: anybody may send messages",
    )
    WRONG_CHAIN = "wrong_chain", Refusal.BAD_PAYLOAD, "the transfer is on another chain than the one that registers the emitter"
    TOO_OLD = "too_old", Refusal.TOO_OLD, "its sequence number lies before the emitter's window, where a replay can no longer be told"
    REPLAYED = "replayed", Refusal.REPLAYED, "this very message was accepted before"
    EQUIVOCATION = "equivocation", Refusal.EQUIVOCATION, "another message with this sequence number was accepted before"
    TOO_MANY_EMITTERS = "too_many_emitters", Refusal.TOO_MANY, f"sequences of {MAX_EMITTERS} emitters are kept already"


class AnnouncementRefusal(Reason):
    """Why a guardian set or a chain's emitter, as an operator announces it, is not taken."""

    INVALID_GUARDIANS = (
        "invalid_guardians",
        Refusal.INVALID_DEFINITION,
        f"a set needs 1 to {MAX_GUARDIANS} different addresses of 20 bytes, none of them zero",
    )
    GUARDIANS_CHANGED = "guardians_changed", Refusal.CONFLICTING_DEFINITION, "this index is known with other guardians"
    NOT_NEWEST = "not_newest", Refusal.CONFLICTING_DEFINITION, "a new set must have a higher index than those known"
    EXPIRY_PUT_OFF = "expiry_put_off", Refusal.CONFLICTING_DEFINITION, "the end of a replaced set may be brought forward, never put off"
    TOO_MANY_SETS = "too_many_sets", Refusal.TOO_MANY, f"{MAX_GUARDIAN_SETS} guardian sets are known already"
    EMITTER_TAKEN = "emitter_taken", Refusal.CONFLICTING_DEFINITION, "the emitter speaks for another chain already"
    TOO_MANY_CHAINS = "too_many_chains", Refusal.TOO_MANY, f"{MAX_EMITTERS} chains have an emitter already"


class GuardianSet(NamedTuple):
    """20-byte addresses by guardian index, and the last event time at which the set counts (None: it is the current one)."""

    addresses: tuple[bytes, ...]
    expiry_ns: int | None


class GuardianSets:
    """The guardian sets announced so far, at most MAX_GUARDIAN_SETS."""

    def __init__(self) -> None:
        self._sets: dict[int, GuardianSet] = {}  # by index, rising

    def get(self, index: int) -> GuardianSet | None:
        """The set of that index, None if it was never announced."""
        return self._sets.get(index)

    def announce(self, new: Announcement, clock_ns: int) -> AnnouncementRefusal | None:
        """Makes `new` the current set, or says why not (and then changes nothing).

        The set before it ends at `previous_expires_ns`, or, if that is 0, OVERLAP_NS after `clock_ns`. A set may be announced again,
        to bring that end forward.
        """
        addresses = tuple(bytes.fromhex(address) for address in new.addresses)
        if not _are_guardians(addresses):
            return AnnouncementRefusal.INVALID_GUARDIANS
        known = self._sets.get(new.index)
        if known is None:
            if len(self._sets) == MAX_GUARDIAN_SETS:
                return AnnouncementRefusal.TOO_MANY_SETS
            if any(index > new.index for index in self._sets):
                return AnnouncementRefusal.NOT_NEWEST
        elif known.addresses != addresses:
            return AnnouncementRefusal.GUARDIANS_CHANGED

        previous_index = max((index for index in self._sets if index < new.index), default=None)
        if previous_index is not None:
            previous = self._sets[previous_index]
            expiry_ns = new.previous_expires_ns
            if expiry_ns == 0:
                expiry_ns = clock_ns + OVERLAP_NS if previous.expiry_ns is None else previous.expiry_ns
            if previous.expiry_ns is not None and expiry_ns > previous.expiry_ns:
                return AnnouncementRefusal.EXPIRY_PUT_OFF
            self._sets[previous_index] = GuardianSet(previous.addresses, expiry_ns)
        if known is None:
            self._sets[new.index] = GuardianSet(addresses, None)
        return None

    def to_data(self) -> list[Any]:
        """[[index, addresses, expiry_ns], ...], indexes rising: equal sets give equal bytes."""
        return [[index, list(known.addresses), known.expiry_ns] for index, known in self._sets.items()]

    @classmethod
    def from_data(cls, data: list[Any]) -> Self:
        """The inverse of `to_data`."""
        restored = cls()
        restored._sets = {index: GuardianSet(tuple(addresses), expiry_ns) for index, addresses, expiry_ns in data}
        return restored


class Emitters:
    """Which contract may attest transfers on which chain: one for a chain, one chain for a contract, at most MAX_EMITTERS."""

    def __init__(self) -> None:
        self._by_chain: dict[str, tuple[int, bytes]] = {}
        self._chains: dict[tuple[int, bytes], str] = {}

    def chain(self, emitter_chain: int, emitter_address: bytes) -> str | None:
        """The chain that a contract speaks for; None if it speaks for none."""
        return self._chains.get((emitter_chain, emitter_address))

    def define(self, definition: ChainDefinition) -> AnnouncementRefusal | None:
        """Takes a chain's emitter in place of the one it had, or says why not. An address of zero: the chain has none."""
        emitter = (definition.emitter_chain, bytes.fromhex(definition.emitter_address))
        former = self._by_chain.get(definition.name)
        if not any(emitter[1]):
            if former is not None:
                del self._by_chain[definition.name], self._chains[former]
            return None
        if self._chains.get(emitter, definition.name) != definition.name:
            return AnnouncementRefusal.EMITTER_TAKEN
        if former is None and len(self._by_chain) == MAX_EMITTERS:
            return AnnouncementRefusal.TOO_MANY_CHAINS
        if former is not None:
            del self._chains[former]
        self._by_chain[definition.name] = emitter
        self._chains[emitter] = definition.name
        return None

    def to_data(self) -> list[Any]:
        """[[chain, emitter_chain, emitter_address], ...] by chain: equal registers give equal bytes."""
        return [[chain, *self._by_chain[chain]] for chain in sorted(self._by_chain)]

    @classmethod
    def from_data(cls, data: list[Any]) -> Self:
        """The inverse of `to_data`."""
        restored = cls()
        for chain, emitter_chain, emitter_address in data:
            restored._by_chain[chain] = (emitter_chain, emitter_address)
            restored._chains[emitter_chain, emitter_address] = chain
        return restored


class SequenceWindow:
    """The `size` highest sequence numbers accepted from one emitter, with their digests.

    Sequences may arrive in any order and each is accepted once. When the window is full the lowest is forgotten and becomes the floor;
    what is at or below the floor is too old. The window holds sequences that were seen rather than a distance below the highest one,
    so that an emitter that numbers with gaps (Wormhole's governance picks numbers at random) does not shut itself out.
    """

    def __init__(self, size: int = SEQUENCE_WINDOW) -> None:
        self._size = size
        self._floor = -1
        self._sequences: list[int] = []  # rising
        self._digests: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._sequences)

    def accept(self, sequence: int, digest: bytes) -> AttestationRefusal | None:
        """Remembers the message, or says why it is refused (and then changes nothing)."""
        known = self._digests.get(sequence)
        if known is not None:
            return AttestationRefusal.REPLAYED if known == digest else AttestationRefusal.EQUIVOCATION
        if sequence <= self._floor:
            return AttestationRefusal.TOO_OLD
        bisect.insort(self._sequences, sequence)
        self._digests[sequence] = digest
        if len(self._sequences) > self._size:
            self._floor = self._sequences.pop(0)
            del self._digests[self._floor]
        return None

    def to_data(self) -> list[Any]:
        """[floor, [[sequence, digest], ...]], sequences rising: equal windows give equal bytes."""
        return [self._floor, [[sequence, self._digests[sequence]] for sequence in self._sequences]]

    @classmethod
    def from_data(cls, data: list[Any]) -> Self:
        """The inverse of `to_data`; ValueError when the data break the window's own rules."""
        window = cls()
        window._floor, kept = data
        window._sequences = [sequence for sequence, _ in kept]
        window._digests = {sequence: digest for sequence, digest in kept}
        rising = all(low < high for low, high in zip([window._floor, *window._sequences], window._sequences, strict=False))
        if not rising or len(kept) > window._size:
            raise ValueError("the stored sequence window is corrupt: rebuild this partition's state from its log")
        return window


class SequenceLedger:
    """One window per emitter, at most MAX_EMITTERS."""

    def __init__(self) -> None:
        self._windows: dict[tuple[int, bytes], SequenceWindow] = {}

    def accept(self, emitter_chain: int, emitter_address: bytes, sequence: int, digest: bytes) -> AttestationRefusal | None:
        """Remembers the message, or says why it is refused (and then changes nothing)."""
        window = self._windows.get((emitter_chain, emitter_address))
        if window is None:
            if len(self._windows) == MAX_EMITTERS:
                return AttestationRefusal.TOO_MANY_EMITTERS
            window = self._windows[emitter_chain, emitter_address] = SequenceWindow()
        return window.accept(sequence, digest)

    def emitters(self) -> list[tuple[int, bytes]]:
        """(emitter_chain, emitter_address) of the emitters heard of, in a fixed order."""
        return sorted(self._windows)

    def window(self, emitter_chain: int, emitter_address: bytes) -> SequenceWindow:
        """One emitter's window, for a cut that writes its state in pieces; KeyError if it was never heard of."""
        return self._windows[emitter_chain, emitter_address]

    def restore_window(self, emitter_chain: int, emitter_address: bytes, data: list[Any]) -> None:
        """Puts back what `window(...).to_data()` gave."""
        self._windows[emitter_chain, emitter_address] = SequenceWindow.from_data(data)

    def to_data(self) -> list[Any]:
        """[[emitter_chain, emitter_address, window], ...] in a fixed order: equal ledgers give equal bytes."""
        return [[*emitter, self._windows[emitter].to_data()] for emitter in self.emitters()]

    @classmethod
    def from_data(cls, data: list[Any]) -> Self:
        """The inverse of `to_data`."""
        ledger = cls()
        for emitter_chain, emitter_address, window in data:
            ledger.restore_window(emitter_chain, emitter_address, window)
        return ledger


def quorum(guardians: int) -> int:
    """Signatures needed of a set: more than two thirds. Source: `quorum` in Wormhole's Messages.sol."""
    return guardians * 2 // 3 + 1


def check(
    attestation: VerifiedAttestation, sets: GuardianSets, clock_ns: int, *, max_skew_ns: int = MAX_SKEW_NS
) -> AttestationRefusal | None:
    """Whether enough guardians of a set that counts at `clock_ns` signed this message; None when they did.

    As in Wormhole's `verifyVM` every signature given must be right, also those beyond the quorum, and a set counts up to and including
    the instant of its expiry. Changes nothing.
    """
    assert len(attestation.signers) == len(attestation.signer_indexes), "the decoder's fault: signers and their indexes go together"
    guardian_set = sets.get(attestation.guardian_set_index)
    if guardian_set is None:
        return AttestationRefusal.UNKNOWN_GUARDIAN_SET
    guardians, expiry_ns = guardian_set
    if expiry_ns is not None and clock_ns > expiry_ns:
        return AttestationRefusal.EXPIRED_GUARDIAN_SET
    if attestation.timestamp_s * NS_PER_S > clock_ns + max_skew_ns:
        return AttestationRefusal.FUTURE_TIME
    if len(attestation.signers) < quorum(len(guardians)):
        return AttestationRefusal.NO_QUORUM
    last_index = -1
    for index, signer in zip(attestation.signer_indexes, attestation.signers, strict=True):
        if index <= last_index:
            return AttestationRefusal.SIGNATURES_NOT_ASCENDING
        last_index = index
        if index >= len(guardians):
            return AttestationRefusal.SIGNER_INDEX_OUT_OF_RANGE
        if not signer:
            return AttestationRefusal.UNRECOVERABLE_SIGNATURE
        if signer != guardians[index]:
            return AttestationRefusal.WRONG_SIGNER
    return None


def admit(
    attestation: VerifiedAttestation,
    transfer: Transfer,
    sets: GuardianSets,
    emitters: Emitters,
    sequences: SequenceLedger,
    clock_ns: int,
    *,
    max_skew_ns: int = MAX_SKEW_NS,
) -> AttestationRefusal | None:
    """Whether `transfer`, the decoded payload of `attestation`, counts; if so its sequence number is used up.

    A refused message leaves no trace, so that a forgery cannot use up the number of the genuine message.
    """
    refusal = check(attestation, sets, clock_ns, max_skew_ns=max_skew_ns)
    if refusal is not None:
        return refusal
    chain = emitters.chain(attestation.emitter_chain, attestation.emitter_address)
    if chain is None:
        return AttestationRefusal.UNKNOWN_EMITTER
    if transfer.chain != chain:
        return AttestationRefusal.WRONG_CHAIN
    return sequences.accept(attestation.emitter_chain, attestation.emitter_address, attestation.sequence, attestation.digest)


def _are_guardians(addresses: tuple[bytes, ...]) -> bool:
    if not 1 <= len(addresses) <= MAX_GUARDIANS or len(set(addresses)) != len(addresses):
        return False
    return all(len(address) == 20 and any(address) for address in addresses)
