"""Closed lists of reasons: why an account is in its state, why input was refused, why an order was or wasn't sent."""

from enum import IntEnum, StrEnum


class State(IntEnum):
    """The one state an account is in; the number is what arrays and rows hold."""

    HEALTHY = 0
    WARNING = 1
    LIQUIDATABLE = 2
    BANKRUPT = 3
    UNKNOWN = 4


class Unknown(IntEnum):
    """Why an account (or a mark) cannot be valued. A lower number wins when several apply; 0 means it can be valued."""

    NONE = 0
    ENGINE_FAULT = 1
    MISSED_FILL = 2
    UNRECONCILED = 3
    NO_MARK = 4  # never seen a price
    STALE_MARK = 5  # too few sources are still fresh
    NO_QUORUM = 6  # never as many sources as the quorum asks for
    SOURCES_APART = 7  # fresh sources disagree, or the divergence breaker is open
    NO_VOLATILITY = 8  # an option without a fresh implied volatility
    NOT_DEFINED = 9  # parameters or a definition are missing
    EXPIRED = 10  # an instrument past its expiry that was not settled yet


class Cause(IntEnum):
    """What made an account fall below maintenance."""

    NONE = 0
    PRICE = 1
    FILL = 2
    FUNDING = 3
    HAIRCUT = 4
    REGIME = 5  # scan ranges, volatilities, correlations, breakers
    CREDIT = 6  # a chain's credit, an attested withdrawal


class Refusal(StrEnum):
    """Why an input went to a dead-letter topic. The first block is seen in the bytes, the second needs a machine's state."""

    BAD_JSON = "bad_json"
    WRONG_TYPE = "wrong_type"
    MISSING_FIELD = "missing_field"
    UNKNOWN_FIELD = "unknown_field"
    UNKNOWN_VERSION = "unknown_version"
    NOT_FINITE = "not_finite"
    NOT_POSITIVE = "not_positive"
    OUT_OF_RANGE = "out_of_range"
    NOT_A_LOT = "not_a_lot"
    NOT_A_TICK = "not_a_tick"
    TOO_LARGE = "too_large"
    WRONG_PARTITION = "wrong_partition"
    WRONG_KEY = "wrong_key"
    BAD_SIGNATURE = "bad_signature"

    UNKNOWN_ASSET = "unknown_asset"
    UNKNOWN_SOURCE = "unknown_source"
    UNKNOWN_CHAIN = "unknown_chain"
    UNKNOWN_VENUE = "unknown_venue"
    UNKNOWN_INSTRUMENT = "unknown_instrument"
    UNKNOWN_ACCOUNT = "unknown_account"
    UNKNOWN_ORDER = "unknown_order"
    FUTURE_TIME = "future_time"
    OUT_OF_ORDER = "out_of_order"
    DUPLICATE = "duplicate"
    OVERFLOW = "overflow"
    TOO_MANY = "too_many"  # a stated bound (positions, sources, holes, instruments) is reached
    CONFLICTING_DEFINITION = "conflicting_definition"
    INVALID_DEFINITION = "invalid_definition"
    INVALID_PARAMETERS = "invalid_parameters"
    UNKNOWN_GUARDIAN_SET = "unknown_guardian_set"
    EXPIRED_GUARDIAN_SET = "expired_guardian_set"
    NO_QUORUM = "no_quorum"
    WRONG_SIGNER = "wrong_signer"
    UNKNOWN_EMITTER = "unknown_emitter"
    REPLAYED = "replayed"
    EQUIVOCATION = "equivocation"
    QUARANTINED = "quarantined"
    TOO_OLD = "too_old"
    BAD_PAYLOAD = "bad_payload"
    HELD_QUEUE_FULL = "held_queue_full"


class Outcome(StrEnum):
    """What a decision in `audit.decisions` says about one plan or brake."""

    ORDERED = "ordered"
    OBSERVED = "observed"  # mode observe: decided and shown, not published
    THROTTLED = "throttled"  # no grant left; queued
    FROZEN = "frozen"
    GRACE = "grace"
    NO_PLAN = "no_plan"  # nothing on offer would raise the account's excess
    EXPIRED = "expired"
    FILLED = "filled"
    REJECTED = "rejected"
    CURED = "cured"
    HELD = "held"  # a credit held back by a chain's breaker, or until its vault's instrument is defined
    RELEASED = "released"
    MODE = "mode"
    FREEZE = "freeze"
    UNFREEZE = "unfreeze"
    QUARANTINE = "quarantine"  # an operator stopped recognising a chain's credit
    UNQUARANTINE = "unquarantine"  # or recognises it again
    PARAMETERS = "parameters"  # a parameter set came into force
    GUARDIAN_SET = "guardian_set"  # a guardian set was taken
    FUND_DRAW = "fund_draw"
    GAP = "gap"  # a frame beyond a gap was skipped
    ENGINE_FAULT = "engine_fault"  # an account could not be computed
