"""Whatever stands in a portfolio or in a parameter set, it is taken or refused in words; and what is refused is what the types refuse."""

import copy
import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.parameters import ASSET_CLASSES, ClassParameters, Parameters, parse_parameters
from streams.json_faults import faults_of
from streams.margin_examples import EXAMPLES
from streams.margin_models import portfolio_margin
from streams.messages import encode
from streams.parameter_check import check_parameters
from streams.portfolio import Portfolio, PortfolioFault, parse_portfolio
from streams.portfolio_book import book_of
from streams.presets import PRESETS, laid_over, preset, whole

SEEDS = st.integers(min_value=0, max_value=2**32 - 1)
CONTENTS = [json.loads(path.read_text()) for path in sorted(EXAMPLES.iterdir())]
SCALARS: list[Any] = [None, True, 0, -1, 1, 2**63, 1e-9, 0.5, 1e15, 1e300, "", "BTC", "ETH", "USD", "gmx", "x" * 65, "2025-12-26T08:00:00Z"]


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) within a document."""
    found: list[tuple[Any, Any]] = []
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()):
        found += [(node, key), *places(value)]
    return found


def mutated(rng: random.Random, changes: int) -> dict[str, Any]:
    """An example with some of its parts taken out, replaced, doubled or renamed."""
    content: dict[str, Any] = copy.deepcopy(rng.choice(CONTENTS))
    for _ in range(changes):
        candidates = places(content)
        if not candidates:
            return content
        node, key = rng.choice(candidates)
        match rng.choice(["remove", "replace", "move", "rename", "double"]):
            case "remove":
                del node[key]
            case "replace":
                node[key] = rng.choice([*SCALARS, [], {}])
            case "move":
                other, at = rng.choice(candidates)
                node[key] = copy.deepcopy(other[at])
            case "rename" if isinstance(node, dict):
                node[f"{key}s"] = node.pop(key)
            case "double" if isinstance(node, list):
                node.append(copy.deepcopy(node[key]))
    return content


@settings(max_examples=500, deadline=None)
@given(seed=SEEDS, changes=st.integers(0, 4))
def test_there_are_faults_where_the_types_refuse(seed: int, changes: int) -> None:
    raw = mutated(random.Random(seed), changes)
    try:
        msgspec.convert(raw, Portfolio)
    except msgspec.ValidationError:
        refused = True
    else:
        refused = False
    assert bool(faults_of(raw, Portfolio)) == refused


@settings(max_examples=300, deadline=None)
@given(seed=SEEDS, changes=st.integers(1, 3), by=st.sampled_from(PRESETS))
def test_a_file_is_valued_or_refused_in_words(seed: int, changes: int, by: str) -> None:
    content = json.dumps(mutated(random.Random(seed), changes)).encode()
    try:
        held = book_of(parse_portfolio(content), by, preset(by).parameters, whole(preset(by).parameters), by)
    except PortfolioFault:
        return
    margin = portfolio_margin(held)
    assert (margin.report.equity_usd is None) == (margin.report.state == "UNKNOWN") == (margin.maintenance is None)
    encode(margin)  # every number is finite


@settings(max_examples=300, deadline=None)
@given(seed=SEEDS)
def test_a_check_has_faults_where_the_parser_has(seed: int) -> None:
    rng = random.Random(seed)
    values = [*SCALARS, 1.15, 1.2, 2.0, 3, 0.02, 0.05, "portfolio", {}, [], {"alt": {"scan_cap": 0.01}}]

    def some(names: list[str], count: int) -> dict[str, Any]:
        return {rng.choice(names): rng.choice(values) for _ in range(count)}

    content = some([*Parameters.model_fields, "quorums"], rng.randint(0, 4))
    if rng.random() < 0.5:
        content["classes"] = {rng.choice([*ASSET_CLASSES, "meme"]): some([*ClassParameters.model_fields, "scan"], 2)}
    base = rng.choice(PRESETS)
    check = check_parameters({**content, "preset": base})
    parsed = parse_parameters(laid_over(preset(base).parameters, content))
    assert bool(check.faults) == isinstance(parsed, list)
    if isinstance(parsed, list):
        assert len({fault.key for fault in check.faults}) <= len(content) + 2 * len(parsed)
        return
    assert whole(check.changes) == parsed
    assert check_parameters(check.changes).changes == check.changes


def test_the_mutations_reach_both_ends() -> None:
    """Else the tests above would say nothing."""
    ends = set()
    for seed in range(60):
        content = json.dumps(mutated(random.Random(seed), 1)).encode()
        try:
            book_of(parse_portfolio(content), "default", {}, whole({}))
        except PortfolioFault:
            ends.add("refused")
        else:
            ends.add("valued")
    assert ends == {"refused", "valued"}
    with pytest.raises(PortfolioFault):
        parse_portfolio(b"{}")
