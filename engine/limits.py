"""What a book may do: mode, freezes, throttle budgets, and what it asked of the insurance fund. All of it arrives through the log."""

from typing import Any

import numpy as np

from engine.inputs import Grant, SetFreeze, SetMode
from engine.reasons import Refusal
from engine.rows import PIECE_PREFIX, decode_piece, encode_piece
from engine.tables import ASSETS_MAX

FROZEN_NAMES_MAX = 4_096  # accounts and venues; keeps the piece below 300 kB

BRAKES_PIECE = PIECE_PREFIX + b"book:brakes"
MONEY_PIECE = PIECE_PREFIX + b"book:money"


class Limits:
    """One partition's brakes and budgets; money in USD by asset number, the fund in micro-USD."""

    def __init__(self) -> None:
        self.publish = False
        self.frozen_all = False
        self.frozen_accounts: set[str] = set()
        self.frozen_venues: set[str] = set()
        self.budget_usd = np.zeros(ASSETS_MAX, np.float64)
        self.cap_usd = np.zeros(ASSETS_MAX, np.float64)
        self.spent_usd = np.zeros(ASSETS_MAX, np.float64)  # cumulative
        self.fund_requested_micro_usd = 0  # cumulative
        self.fund_paid_micro_usd = 0

    # ---- brakes ----

    def set_mode(self, command: SetMode) -> None:
        """From here on orders are published, or only shown."""
        self.publish = command.mode == "publish"

    def set_freeze(self, command: SetFreeze) -> tuple[Refusal, str] | None:
        """Stops or resumes orders; a refusal changes nothing."""
        if command.scope == "all":
            self.frozen_all = command.frozen
            return None
        names = self.frozen_accounts if command.scope == "account" else self.frozen_venues
        if not command.frozen:
            names.discard(command.name)
        elif len(names) >= FROZEN_NAMES_MAX:
            return Refusal.TOO_MANY, f"{FROZEN_NAMES_MAX} {command.scope}s are frozen already: freeze all, or unfreeze some"
        else:
            names.add(command.name)
        return None

    def is_frozen(self, account: str) -> bool:
        """Whether no order of this account may go out."""
        return self.frozen_all or account in self.frozen_accounts

    # ---- budgets ----

    def grant(self, grant: Grant, asset: int) -> None:
        """Budget handed out by the treasury, bounded by its cap."""
        self.cap_usd[asset] = grant.cap_usd
        self.budget_usd[asset] = min(float(self.budget_usd[asset]) + grant.budget_usd, grant.cap_usd)

    def spend(self, asset: int, notional_usd: float) -> None:
        """An order of this notional is decided."""
        self.budget_usd[asset] -= notional_usd
        self.spent_usd[asset] += notional_usd

    def give_back(self, asset: int, notional_usd: float) -> None:
        """An order ended with this notional unspent."""
        self.budget_usd[asset] = min(float(self.budget_usd[asset]) + notional_usd, float(self.cap_usd[asset]))

    # ---- the cut ----

    def pieces(self, assets: int) -> dict[bytes, bytes]:
        """Everything here, for the first `assets` assets."""
        brakes = (self.publish, self.frozen_all, sorted(self.frozen_accounts), sorted(self.frozen_venues))
        money = (
            self.budget_usd[:assets].tolist(),
            self.cap_usd[:assets].tolist(),
            self.spent_usd[:assets].tolist(),
            self.fund_requested_micro_usd,
            self.fund_paid_micro_usd,
        )
        return {BRAKES_PIECE: encode_piece(brakes), MONEY_PIECE: encode_piece(money)}

    def restore(self, pieces: dict[bytes, bytes]) -> None:
        """The inverse of `pieces`."""
        if BRAKES_PIECE in pieces:
            self.publish, self.frozen_all, accounts, venues = decode_piece(pieces[BRAKES_PIECE])
            self.frozen_accounts, self.frozen_venues = set(accounts), set(venues)
        if MONEY_PIECE in pieces:
            content: list[Any] = decode_piece(pieces[MONEY_PIECE])
            for array, values in zip((self.budget_usd, self.cap_usd, self.spent_usd), content[:3], strict=True):
                array[: len(values)] = values
            self.fund_requested_micro_usd, self.fund_paid_micro_usd = content[3:]
