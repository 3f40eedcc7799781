"""From a covariance to the correlation that counts."""

import math


def shrunk(covariance: float, variance: float, other_variance: float, prior: float, shrink: float) -> float:
    """Of two groups, drawn towards their prior, which is all there is where one of them never moves."""
    scale = math.sqrt(variance * other_variance)
    return prior if scale == 0 else min(max((1 - shrink) * covariance / scale + shrink * prior, -1.0), 1.0)
