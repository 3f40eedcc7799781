"""Every fault of a JSON document at once, each with its path."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct

from streams.json_faults import faults_of


class Part(Struct, forbid_unknown_fields=True, tag_field="kind", tag="part"):
    size: Annotated[float, Meta(gt=0.0)]
    colour: Literal["red", "green"] = "red"


class Whole(Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(max_length=4)]
    parts: Annotated[list[Part], Meta(max_length=2)] = []
    by_name: dict[Annotated[str, Meta(min_length=2)], Part | int] = {}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"name": "a", "parts": [{"size": 1}, {"kind": "part", "size": 2.5, "colour": "green"}], "by_name": {"xy": 3}}, []),
        ([], ["the document: Expected `object`, got `array`"]),
        ({"name": "a", "parts": 3}, ["parts: Expected `array`, got `int`"]),
        ({"name": "a", "parts": [{"size": 1, "kind": "whole"}]}, ["parts[0]: Invalid value 'whole'"]),
        ({"name": "a", "parts": [{"size": 1}] * 3}, ["parts: Expected `array` of length <= 2"]),
        (
            {"nam": "a", "parts": [{"size": 0}, {"colour": "blue", "sise": 1}], "by_name": {"x": {"size": "1"}}},
            [
                "nam: there is no such key; did you mean name?",
                "parts[0].size: Expected `float` > 0.0",
                "parts[1].colour: Invalid enum value 'blue'",
                "parts[1].sise: there is no such key; did you mean size?",
                "parts[1].size: is missing",
                "by_name.x: Expected `str` of length >= 2",
                "by_name.x.size: Expected `float`, got `str`",
                "name: is missing",
            ],
        ),
        ({"name": "a", "zebra": 1}, ["zebra: there is no such key"]),
        (
            {"name": "abcde", "by_name": {"xy": "z"}},
            ["name: Expected `str` of length <= 4", "by_name.xy: Expected `int | object`, got `str`"],
        ),
    ],
)
def test_all_of_them_are_told(raw: Any, expected: list[str]) -> None:
    assert faults_of(raw, Whole) == expected
