"""The demo's guardians: they attest transfers on chains, and one who is not of them forges one."""

from engine.inputs import Attestation, GuardianSet
from engine.transfers import Direction, Transfer, encode_transfer
from streams.demo.definitions import emitter_address, emitter_chain
from streams.demo.facts import SECOND_NS, START_NS
from streams.verify import encode_body, guardian_address, sign_vaa, synthetic_keys

# When the day's attestations come in, in seconds after 20:30. The genuine one comes again at REPLAYED_AT_S.
GENUINE_AT_S, FORGED_AT_S, REPLAYED_AT_S, DEPOSIT_AT_S = 40 * 60 + 10, 46 * 60, 50 * 60, 65 * 60  # 21:10:10, 21:16, 21:20, 21:35
HELD = "named-17-cross_chain_hedger"  # whose deposit on the slow chain waits until the chain is back
RELEASED_BY_S = 90 * 60  # 22:00: it is back at 21:45, and its breaker looks at the last ten minutes

GUARDIANS = 7
QUORUM = 5
GUARDIAN_SET_INDEX = 0
_KEYS = synthetic_keys("plimsoll demo", GUARDIANS)
_FORGER_KEYS = synthetic_keys("plimsoll demo forger", GUARDIANS)


def guardian_set() -> GuardianSet:
    return GuardianSet(
        v=1,
        by="demo",
        note="synthetic keys that anybody can compute",
        time_ns=START_NS,
        index=GUARDIAN_SET_INDEX,
        addresses=[guardian_address(_KEYS[index]).hex() for index in range(GUARDIANS)],
    )


class Bridge:
    """Numbers transfers (by account and chain) and messages (by chain), and has them signed."""

    def __init__(self) -> None:
        self._sequences: dict[str, int] = {}
        self._numbers: dict[tuple[str, str], int] = {}

    def credit(self, account: str, chain: str, asset: str, lots: int, time_ns: int) -> Attestation:
        """A signed credit of `lots` to the account's position in the chain's vault."""
        number = self._numbers[account, chain] = self._numbers.get((account, chain), 0) + 1
        return self._signed(Transfer(account, chain, asset, lots, Direction.CREDIT, number), time_ns, _KEYS)

    def forged(self, account: str, chain: str, asset: str, lots: int, time_ns: int) -> Attestation:
        """A credit that nobody made, under a sequence number that is still free, signed by keys that are not the guardians'."""
        number = self._numbers.get((account, chain), 0) + 1
        forged = self._signed(Transfer(account, chain, asset, lots, Direction.CREDIT, number), time_ns, _FORGER_KEYS)
        self._sequences[chain] -= 1  # the real bridge knows nothing of it
        return forged

    def _signed(self, transfer: Transfer, time_ns: int, keys: dict[int, bytes]) -> Attestation:
        sequence = self._sequences[transfer.chain] = self._sequences.get(transfer.chain, 0) + 1
        body = encode_body(
            timestamp_s=time_ns // SECOND_NS,
            emitter_chain=emitter_chain(transfer.chain),
            emitter_address=bytes.fromhex(emitter_address(transfer.chain)),
            sequence=sequence,
            payload=encode_transfer(transfer),
        )
        signers = {index: keys[index] for index in range(QUORUM)}
        return Attestation(v=1, vaa=sign_vaa(signers, GUARDIAN_SET_INDEX, body).hex(), observed_time_ns=time_ns)
