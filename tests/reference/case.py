"""What a reference case says when it has run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CaseResult:
    """One comparison with an answer that somebody else has given. `detail` says by how much it agrees, or how it doesn't."""

    family: str
    case: str
    passed: bool
    detail: str
