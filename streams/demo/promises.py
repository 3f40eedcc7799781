"""What a run of the demo must show, as far as the minutes played reach: the demo ends with 1 if one of these did not hold."""

from collections import Counter
from collections.abc import Iterator

from engine.reasons import Refusal
from streams.demo.attestations import DEPOSIT_AT_S, FORGED_AT_S, GENUINE_AT_S, HELD, RELEASED_BY_S, REPLAYED_AT_S
from streams.demo.summary import Run

DEPEGGED_AT_S = 80 * 60  # 21:50: Binance has printed USDe below 0.80 for a quarter of an hour, and in B so has every source


def broken_promises(run: Run) -> list[str]:
    """One line for each that did not hold."""
    return [*_of_any_run(run), *_of_loopers(run), *_of_attestations(run), *_of_the_deposit(run)]


def _of_any_run(run: Run) -> Iterator[str]:
    if run.replay.differences:
        yield f"computing it a second time found {len(run.replay.differences)} differences, the first: {run.replay.differences[0]}"
    if run.recording.conflicting:
        yield f"{len(run.recording.conflicting)} orders were published with two contents"


def _of_loopers(run: Run) -> Iterator[str]:
    """One venue's print liquidates nobody; a fall at every source does."""
    liquidated = run.liquidated("usde_looper")
    if run.scenario == "A" and liquidated:
        yield f"{len(liquidated)} loopers were liquidated on one venue's price"
    if run.scenario == "B" and run.played(DEPEGGED_AT_S) and not liquidated:
        yield "every source of USDe fell, and no looper was liquidated"


def _of_attestations(run: Run) -> Iterator[str]:
    """The forged and the replayed one are refused, for what is wrong with each, and none of the others is."""
    due = Counter[str]()
    if run.played(FORGED_AT_S):
        due[Refusal.WRONG_SIGNER.value] += 1
    if run.played(REPLAYED_AT_S) and run.played(GENUINE_AT_S):
        due[Refusal.REPLAYED.value] += 1
    refused = Counter(reason for origin, reason in run.recording.letters.items() if origin.startswith("chain.attestations/"))
    if refused != due:
        yield f"attestations were refused as {dict(refused)}, not as {dict(due)}"


def _of_the_deposit(run: Run) -> Iterator[str]:
    """A deposit on a chain that has fallen silent is held, and let go when the chain is back."""
    if run.played(DEPOSIT_AT_S) and HELD not in run.recording.held:
        yield f"the deposit of {HELD} was not held though its chain had fallen silent"
    if run.played(DEPOSIT_AT_S) and run.played(RELEASED_BY_S) and HELD not in run.recording.released:
        yield f"the deposit of {HELD} was never let go though its chain is back"
