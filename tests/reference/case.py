"""What a reference case says when it has run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CaseResult:
    """One comparison with an answer that somebody else has given. `detail` says by how much it agrees, or how it doesn't."""

    family: str
    case: str
    passed: bool
    detail: str
    told: bool = False  # a figure that a reader wants to see even where it passed, such as a largest error
    left_out: bool = False  # cannot be compared; `detail` says why. Counted neither as passed nor as failed, but named
