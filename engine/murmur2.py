"""Murmur2 as Kafka's Java client hashes keys: which partition an account, a chain or an emitter belongs to.

Source: Austin Appleby's MurmurHash2 (32 bits, seed 0x9747b28c), with the sign bit cleared before the remainder, as in
`org.apache.kafka.common.utils.Utils.murmur2` and `toPositive`. aiokafka's default partitioner is the same; librdkafka's is another.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.jit import kernel

_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """The hash of `key`, 0 to 2**32 - 1 (Java shows the same bits as a signed number)."""
    length = len(key)
    whole = length & ~3
    value = _SEED ^ length
    for start in range(0, whole, 4):
        word = int.from_bytes(key[start : start + 4], "little") * _MULTIPLIER & _MASK
        word = (word ^ word >> 24) * _MULTIPLIER & _MASK
        value = value * _MULTIPLIER & _MASK ^ word
    if whole < length:
        value = (value ^ int.from_bytes(key[whole:], "little")) * _MULTIPLIER & _MASK
    value = (value ^ value >> 13) * _MULTIPLIER & _MASK
    return value ^ value >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """The partition, 0 to `partitions` - 1, that Kafka's default partitioner gives a record with this key."""
    assert partitions > 0
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def partitions_of(keys: Sequence[bytes], partitions: int) -> NDArray[np.int32]:
    """`partition_of` each key; shape (len(keys),). One call for a whole batch, because hashing in Python costs 2 us a key."""
    assert partitions > 0
    ends = np.fromiter(map(len, keys), np.int64, len(keys)).cumsum()
    content = np.frombuffer(b"".join(keys), np.uint8)
    return _partitions(content, ends, np.int64(partitions))


@kernel
def _partitions(content: NDArray[np.uint8], ends: NDArray[np.int64], partitions: np.int64) -> NDArray[np.int32]:
    """Keys lie one after the other in `content`, key i up to `ends[i]`."""
    out = np.empty(len(ends), np.int32)
    multiplier = np.uint32(_MULTIPLIER)
    start = 0
    for i in range(len(ends)):
        end = ends[i]
        value = np.uint32(_SEED) ^ np.uint32(end - start)
        while end - start >= 4:
            word = (
                np.uint32(content[start])
                | np.uint32(content[start + 1]) << np.uint32(8)
                | np.uint32(content[start + 2]) << np.uint32(16)
                | np.uint32(content[start + 3]) << np.uint32(24)
            )
            word = np.uint32(word * multiplier)
            word = np.uint32((word ^ word >> np.uint32(24)) * multiplier)
            value = np.uint32(np.uint32(value * multiplier) ^ word)
            start += 4
        if start < end:
            tail = np.uint32(0)
            for j in range(end - start):
                tail = np.uint32(tail | np.uint32(content[start + j]) << np.uint32(8 * j))
            value = np.uint32((value ^ tail) * multiplier)
            start = end
        value = np.uint32((value ^ value >> np.uint32(13)) * multiplier)
        value = np.uint32(value ^ value >> np.uint32(15))
        out[i] = np.int64(value & np.uint32(0x7FFFFFFF)) % partitions
    return out
