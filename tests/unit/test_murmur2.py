"""Murmur2 agrees with Java's published vectors, with aiokafka, and with its own compiled form."""

import numpy as np
import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.murmur2 import murmur2, partition_of, partitions_of

# Apache Kafka, clients, UtilsTest.testMurmur2: key -> signed 32-bit hash.
JAVA_VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "signed"), JAVA_VECTORS.items())
def test_java_vectors(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed % 2**32


@given(st.binary(max_size=70))
def test_agrees_with_aiokafka(key: bytes) -> None:
    assert murmur2(key) == aiokafka_murmur2(key) % 2**32


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 1000))
def test_a_batch_is_its_keys_one_by_one(keys: list[bytes], partitions: int) -> None:
    many = partitions_of(keys, partitions)
    assert many.dtype == np.int32
    assert many.tolist() == [partition_of(key, partitions) for key in keys]


def test_partition_clears_the_sign_bit_first() -> None:
    # Java's hash of "21" is negative; a plain remainder of the unsigned value would give another partition.
    assert partition_of(b"21", 7) == (-973932308 & 0x7FFFFFFF) % 7
    assert partition_of(b"21", 7) != murmur2(b"21") % 7
