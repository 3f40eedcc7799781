"""How both of Derive's margins take a feed that is in doubt."""

from engine.jit import kernel


@kernel
def doubt(confidence: float, threshold: float, factor: float) -> float:
    """Share of a size that a feed with this confidence costs; NaN for NaN."""
    return 0.0 if confidence >= threshold else (1.0 - confidence) * factor


@kernel
def lower(left: float, right: float) -> float:
    """The lower of both, and NaN where either is: the built-in one would forget it."""
    if left != left or left < right:
        return left
    return right
