"""Kernels do not check indices, so what comes from outside is checked once a batch, before them."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def require_legs(start_name: str, start: NDArray[np.int64], accounts: int, arrays: Sequence[NDArray[np.generic]]) -> None:
    """ValueError unless `start` are the offsets of so many accounts into arrays of legs that are all of one length."""
    legs = len(arrays[0])
    if any(array.shape != (legs,) for array in arrays):
        raise ValueError(f"{start_name}: arrays of its legs must be of one shape, not {[array.shape for array in arrays]}")
    if len(start) != accounts + 1 or start[0] != 0 or start[-1] != legs or bool((np.diff(start) < 0).any()):
        raise ValueError(f"{start_name} must be the offsets of {accounts} accounts into {legs} legs, from 0 and never falling")


def require_within(name: str, indices: NDArray[np.int64], size: int) -> None:
    """ValueError unless all of `indices` are from 0 to below `size`."""
    if len(indices) and (indices.min() < 0 or indices.max() >= size):
        raise ValueError(f"{name} names what there is not: {indices.min()} to {indices.max()} of {size}")


def require_each(size: int, named: Iterable[tuple[str, NDArray[np.generic]]]) -> None:
    """ValueError unless each array has one element for each of `size` markets or accounts."""
    for name, array in named:
        if array.shape != (size,):
            raise ValueError(f"{name} has the shape {array.shape} where there are {size}")
