"""Faults of a venue's parameters: all at once, each with the path of its key."""

from typing import Annotated

import pytest
from msgspec import Meta, Struct

from engine.rules.faults import FAULTS_MAX, faults, read


class Inner(Struct, frozen=True):
    share: Annotated[float, Meta(ge=0.0, le=1.0)]
    low: float = 0.0

    def __post_init__(self) -> None:
        if self.low > self.share:
            raise ValueError("low is above share")


class Outer(Struct, frozen=True, forbid_unknown_fields=True):
    one: Inner
    several: Annotated[tuple[Inner, ...], Meta(max_length=2)]
    plain: tuple[float, ...] = ()
    number: int = 3


GOOD = {"one": {"share": 0.5}, "several": [{"share": 1}], "plain": [1.0, 2.0]}


def test_a_good_set_is_read() -> None:
    assert read(Outer, GOOD) == Outer(Inner(0.5), (Inner(1.0),), (1.0, 2.0))


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        ({"one": {}}, ["one.share"]),
        ({"one": {"share": 2.0, "shore": 1.0}}, ["one.shore", "one.share"]),
        ({"one": 7}, ["one"]),
        ({"several": [{"share": 2.0}, {"share": "x"}]}, ["several[0].share", "several[1].share"]),
        ({"several": [{"share": 1.0}] * 3}, ["several"]),
        ({"several": None}, ["several"]),
        ({"several": [{"share": 0.1, "low": 0.2}]}, ["several[0]"]),
        ({"plain": [1.0, "x"], "number": 1.5, "other": 0}, ["other", "plain[1]", "number"]),
    ],
)
def test_every_fault_by_its_path(change: dict[str, object], paths: list[str]) -> None:
    assert [fault.partition(":")[0] for fault in faults(Outer, GOOD | change)] == paths
    assert read(Outer, GOOD | change) == faults(Outer, GOOD | change)


def test_what_the_fields_say_together_is_told_too() -> None:
    assert read(Outer, GOOD | {"one": {"share": 0.1, "low": 0.2}}) == ["one: low is above share"]
    assert read(Inner, {"share": 0.1, "low": 0.2}) == ["Inner: low is above share"]


def test_what_is_no_mapping() -> None:
    assert faults(Outer, [1]) == ["Outer: expected keys and values, got list"]


def test_the_number_of_faults_is_bounded() -> None:
    assert FAULTS_MAX == 256, "one letter, whatever is wrong"
    for spare, last in ((FAULTS_MAX, "spare_255: not a parameter"), (FAULTS_MAX + 1, "and 1 more"), (FAULTS_MAX + 5, "and 5 more")):
        found = faults(Outer, GOOD | {f"spare_{number}": 0 for number in range(spare)})
        assert len(found) == min(spare, FAULTS_MAX + 1)
        assert found[-1] == last
        assert found[FAULTS_MAX - 1] == "spare_255: not a parameter"
