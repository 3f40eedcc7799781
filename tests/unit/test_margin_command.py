"""`plimsoll margin`: the examples, what it prints, the file's faults, and that it is the engine that speaks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from typer.testing import CliRunner, Result

from engine.inputs import (
    Depth,
    FrameKind,
    Funding,
    ImpliedVolatility,
    LagObservation,
    OraclePrice,
    RiskParameters,
    Snapshot,
    SnapshotPosition,
    Tick,
)
from engine.tables import INITIAL_LEVEL, MAINTENANCE_LEVEL
from streams.command_line import FAULT, FOUND_WANTING, app
from streams.margin_examples import EXAMPLES
from streams.margin_models import portfolio_margin, report_schema
from streams.messages import encode
from streams.portfolio import PORTFOLIO_BYTES_MAX, PortfolioFault, moment_ns, parse_portfolio, portfolio_schema, read_portfolio
from streams.portfolio_book import SETTLE_TICKS_MAX, PortfolioBook, book_of
from streams.presets import preset, whole
from streams.shadow.scenarios import Grid
from streams.shadow.view import INITIAL, MAINTENANCE
from tests.two_books import TwoBooks

HEDGE, OPTIONS = (EXAMPLES / f"{name}.json" for name in ("cross-chain-hedge", "options-book"))
SMALL: dict[str, Any] = {
    "clock": "2025-10-10T20:30:00Z",
    "chains": [{"name": "one"}],
    "venues": [{"name": "ex", "chain": "one"}],
    "assets": [{"name": "BTC"}],
    "instruments": [{"venue": "ex", "name": "PERP", "contract": "perpetual", "underlying": "BTC"}],
    "marks": {"BTC": 100_000},
    "positions": [{"venue": "ex", "instrument": "PERP", "quantity": 1}, {"venue": "ex", "instrument": "USD", "cash": 20_000}],
}


def plimsoll(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["margin", *arguments], env={"COLUMNS": "160"})


def said_of(file: Path, *arguments: str) -> Any:
    result = plimsoll(str(file), "--json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def a_book(changes: dict[str, Any], by: str = "default", more: dict[str, Any] | None = None) -> PortfolioBook:
    content = {**SMALL, **changes}
    parameters = {**preset(by).parameters, **(more or {})}
    return book_of(parse_portfolio(json.dumps(content).encode()), by, parameters, whole(parameters), by)


def written(folder: Path, changes: dict[str, Any]) -> Path:
    file = folder / "portfolio.json"
    file.write_text(json.dumps({**SMALL, **changes}))
    return file


def faults_of(changes: dict[str, Any]) -> list[str]:
    with pytest.raises(PortfolioFault) as caught:
        a_book(changes)
    return caught.value.faults


# ---- the examples ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [HEDGE, OPTIONS], ids=lambda file: file.stem)
def test_an_example_fits_its_schema_and_so_does_its_report(file: Path) -> None:
    schemas = json.loads(plimsoll("--schema").output)
    assert schemas == {"portfolio": portfolio_schema(), "report": report_schema()}
    jsonschema.Draft202012Validator(schemas["portfolio"]).validate(json.loads(file.read_text()))
    for arguments in ((), ("--preset", "span16")):
        jsonschema.Draft202012Validator(schemas["report"]).validate(said_of(file, *arguments))


def test_every_example_in_the_documents_is_run() -> None:
    assert sorted(EXAMPLES.iterdir()) == [HEDGE, OPTIONS]


def test_a_hedge_nets_across_chains() -> None:
    said = said_of(HEDGE)
    report = said["report"]
    by_mode = report["requirement_usd"]
    assert by_mode["isolated"] > by_mode["protocol"] > 10 * by_mode["portfolio"] > 0.0
    assert said["capital_efficiency"] == pytest.approx(by_mode["isolated"] / by_mode["portfolio"])
    btc = next(one for one in report["greeks"]["by_asset"] if one["asset"] == "BTC")
    assert (btc["delta"], btc["delta_usd"]) == (0.0, 0.0)
    assert {one["asset"] for one in report["collateral"]} == {"BTC", "wstETH"}
    assert all(one["latency"] > 0.0 for one in report["collateral"]), "the shorts lie on another chain"


def test_the_options_books_binding_loss_is_in_the_table() -> None:
    said = said_of(OPTIONS)
    (group,) = said["maintenance"]["groups"]
    pieces = said["maintenance"]["add_ons"]
    assert max(group["volatility_up_usd"]) == pytest.approx(pieces["scenarios"])
    beside = sum(usd for name, usd in pieces.items() if name not in ("scenarios", "short_option_minimum"))
    whole_usd = max(pieces["scenarios"], pieces["short_option_minimum"]) + beside
    assert said["maintenance"]["requirement_usd"] == pytest.approx(whole_usd)
    assert said["report"]["maintenance_usd"] == pytest.approx(whole_usd)
    assert min(pieces["vega"], pieces["gap"], pieces["basis"]) > 0.0
    assert said["report"]["binding"].startswith("BTC falls")
    total = sum(one["gamma_usd"] for one in said["report"]["greeks"]["by_position"])
    assert said["report"]["greeks"]["by_asset"][0]["gamma_usd"] == pytest.approx(total)
    assert said_of(OPTIONS, "--preset", "span16")["preset"] == "span16"
    assert len(said_of(OPTIONS, "--preset", "span16")["maintenance"]["groups"][0]["moves"]) == 7


# ---- it is the engine -----------------------------------------------------------------------------------------------------------------


def told_to_the_twin(held: PortfolioBook) -> TwoBooks:
    """What the file says, as messages to the plain twin (which shares no code with the engine) and to another book beside it."""
    p, universe, now = held.portfolio, held.book.market.universe, moment_ns(held.portfolio.clock)
    both = TwoBooks(preset(held.preset).parameters)
    both.feed(FrameKind.DEFINITIONS, [*universe.chains, *universe.assets[1:], *universe.venues, *universe.instruments])
    both.feed(FrameKind.PARAMETERS, [RiskParameters(v=1, version="x", parameters=preset(held.preset).parameters, time_ns=0)])
    both.feed(FrameKind.TICK, [Tick(now)])
    quotes = [
        ImpliedVolatility(v=1, underlying=asset, expiry_ns=moment_ns(expiry), sigma=sigma, time_ns=now)
        for asset, by_expiry in p.implied_volatilities.items()
        for expiry, sigma in by_expiry.items()
    ]
    both.feed(FrameKind.VOLATILITIES, quotes)
    prices = []
    for asset in universe.assets[1:]:
        mark = p.marks[asset.name]
        for source in asset.sources:
            usd = mark[source] if isinstance(mark, dict) else mark
            prices.append(OraclePrice(v=1, asset=asset.name, source=source, price=float(usd), publish_time_ns=now))
    both.feed(FrameKind.PRICES, prices)
    depths = {name: depth for name, depth in p.depths.items() if not isinstance(depth, float)}
    both.feed(
        FrameKind.DEPTHS,
        [Depth(v=1, asset=name, depth_usd=d.depth_usd, spread_bps=d.spread_bps or 0.0, time_ns=now) for name, d in depths.items()],
    )
    both.feed(FrameKind.LAGS, [LagObservation(chain, int(lag * 1e9), now) for chain, lag in p.lags.items()])
    for key, value in p.interest_indexes.items():
        venue, _, name = key.partition("/")
        index = Funding(v=1, venue=venue, instrument=name, measure="interest_index", value=value, time_ns=now)
        both.feed(FrameKind.FUNDINGS, [index])
    by_venue: dict[str, list[SnapshotPosition]] = {}
    for one in portfolio_margin(held).report.positions:
        unit = 1e-9 if one.quote == "BTC" else 1e-6
        by_venue.setdefault(one.venue, []).append(SnapshotPosition(one.instrument, one.lots, round(one.cash_quote / unit)))
    for venue, positions in by_venue.items():
        snapshot = Snapshot(v=1, account=p.account, venue=venue, sequence=0, positions=positions, time_ns=now)
        both.feed(FrameKind.SNAPSHOTS, [snapshot])
    assert both.differences() == []
    return both


@pytest.mark.parametrize("by", ["default", "span16", "derive_pmrm2", "deribit_pm", "conservative"])
@pytest.mark.parametrize("file", [HEDGE, OPTIONS], ids=lambda file: file.stem)
def test_it_says_what_the_plain_twin_says(file: Path, by: str) -> None:
    held = a_book(json.loads(file.read_text()), by)
    margin = portfolio_margin(held)
    both = told_to_the_twin(held)
    record = both.twin.accounts[held.account]
    twin = record.valuation
    for ours, theirs in (
        (margin.report.equity_usd, twin.equity_m),
        (margin.report.unhaircut_usd, twin.unhaircut),
        (margin.report.maintenance_usd, twin.maintenance),
        (margin.report.initial_usd, twin.initial),
        (margin.report.close_cost_usd, twin.close_cost),
    ):
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-6)
    account = both.twin.margin(record)
    for scenarios, level in ((margin.maintenance, MAINTENANCE), (margin.initial, INITIAL)):
        assert scenarios is not None
        assert [group.group for group in scenarios.groups] == account.groups()
        grid = Grid(account.valuer, level)
        for group in scenarios.groups:
            profile = [0.0] * len(grid.moves(group.group))
            for key, position in record.positions.items():
                terms = account.universe.instruments[key]
                parts = []
                if position.quantity and account.universe.group_of(terms["underlying"]) == group.group:
                    parts.append(grid.of_lots(key, position.quantity, group.group))
                if position.cash and account.universe.group_of(terms["quote"]) == group.group:
                    parts.append(grid.of_cash(key, position.cash, group.group))
                profile = [sum(gains) for gains in zip(profile, *parts, strict=True)]
            losses = [-gain for gain in profile]
            within = 1e-9 * account.gross()
            moves = [move for move, _ in grid.moves(group.group)]
            assert [*group.moves, *group.extreme_moves] == pytest.approx([*moves[:-2:2], *moves[-2:]])
            assert group.volatility_up_usd == pytest.approx(losses[:-2:2], rel=1e-9, abs=within)
            assert group.volatility_down_usd == pytest.approx(losses[1:-2:2], rel=1e-9, abs=within)
            assert group.extreme_usd == pytest.approx(losses[-2:], rel=1e-9, abs=within)


def test_maintenance_is_that_of_markets_that_stay_as_they_are() -> None:
    """Implied volatility above the reference counts at both levels, as it would after hours of it."""
    quotes = {"implied_volatilities": {"BTC": {"2025-11-10T08:00:00Z": 1.5}}}
    held = a_book(quotes)
    sigma = held.book.market.inputs.sigma[:, 1]
    assert sigma[MAINTENANCE_LEVEL] == sigma[INITIAL_LEVEL] == 1.5
    assert held.book.clock_ns == moment_ns(SMALL["clock"])
    assert held.notes == []
    margin = portfolio_margin(held)
    assert margin.maintenance is not None
    assert margin.initial is not None
    assert margin.maintenance.groups == margin.initial.groups
    calm = a_book({})
    assert calm.book.market.inputs.sigma[MAINTENANCE_LEVEL, 1] == 0.8
    assert calm.book.applied < 10 < held.book.applied < SETTLE_TICKS_MAX


def test_volatility_that_never_rises_is_said() -> None:
    quotes = {"implied_volatilities": {"BTC": {"2025-11-10T08:00:00Z": 1.5}}}
    for rise in (0.0, 1e-4):
        held = a_book(quotes, more={"sigma_rise_per_hour": rise})
        assert held.book.market.inputs.sigma[MAINTENANCE_LEVEL, 1] == 0.8
        assert "rises too slowly" in held.notes[0]
        assert portfolio_margin(held).notes == held.notes


def test_the_same_file_gives_the_same_bytes() -> None:
    one, other = (encode(portfolio_margin(a_book(json.loads(OPTIONS.read_text())))) for _ in range(2))
    assert one == other


# ---- what a file may say --------------------------------------------------------------------------------------------------------------


def test_positions_in_lots_or_quantity_and_by_entry_price_or_cash_are_the_same() -> None:
    entered = {"venue": "ex", "instrument": "PERP", "quantity": -0.5, "entry_price": 101_000, "cash": -12.5}
    plain = {"venue": "ex", "instrument": "PERP", "lots": -5_000, "cash": 50_487.5}
    for held in (entered, plain):
        (position,) = portfolio_margin(a_book({"positions": [held]})).report.positions
        assert position.lots == -5_000
        assert position.cash_quote == pytest.approx(50_487.5)
        assert position.value_usd == pytest.approx(487.5)


def test_inverse_contracts_pay_in_coins() -> None:
    coin = {"venue": "ex", "name": "COIN", "contract": "inverse_perpetual", "underlying": "BTC", "lot_size": 10}
    held = {"venue": "ex", "instrument": "COIN", "quantity": 100_000, "entry_price": 80_000}
    (position,) = portfolio_margin(a_book({"instruments": [coin], "positions": [held]})).report.positions
    assert (position.lots, position.quote) == (10_000, "BTC")
    assert position.cash_quote == pytest.approx(1.25)
    assert position.value_usd == pytest.approx(25_000.0)


def test_messages_of_the_bus_are_definitions_too() -> None:
    held = a_book({**json.loads(HEDGE.read_text())})
    universe = held.book.market.universe
    plain: dict[str, Any] = {
        name: msgspec.to_builtins(values)
        for name, values in (
            ("chains", universe.chains),
            ("assets", universe.assets[1:]),
            ("venues", universe.venues),
            ("instruments", universe.instruments),
        )
    }
    assert plain["assets"][0]["kind"] == "asset"
    other = a_book({**json.loads(HEDGE.read_text()), **plain})
    assert portfolio_margin(other) == portfolio_margin(held)


def test_assets_are_defined_after_those_they_are_redeemed_for() -> None:
    staked = {"name": "stETH", "asset_class": "liquid_staking", "redemption_asset": "ETH"}
    held = a_book({"assets": [staked, {"name": "ETH"}, {"name": "BTC"}]})
    assert [asset.name for asset in held.book.market.universe.assets] == ["USD", "ETH", "BTC", "stETH"]
    circle = faults_of({"assets": [{**staked, "redemption_asset": "x"}, {"name": "x", "redemption_asset": "stETH"}, {"name": "BTC"}]})
    assert any(fault.startswith("assets[0]: invalid definition: ") for fault in circle)


def test_one_mark_is_that_of_every_source_and_several_need_a_quorum() -> None:
    report = portfolio_margin(a_book({}, "conservative")).report
    assert report.state != "UNKNOWN", "as many sources as that set's quorum"
    weights = [{"name": "BTC", "sources": {"a": 1, "b": 2}}]
    assert portfolio_margin(a_book({"assets": weights})).report.equity_usd is not None
    alone = portfolio_margin(a_book({"marks": {"BTC": {"a": 100_000}}})).report
    assert (alone.state, alone.reason, alone.equity_usd) == ("UNKNOWN", "no_quorum", None)
    apart = portfolio_margin(a_book({"marks": {"BTC": {"a": 100_000, "b": 120_000}}})).report
    assert (apart.state, apart.reason) == ("UNKNOWN", "sources_apart")


@pytest.mark.parametrize(
    ("moment", "ns"),
    [
        ("2025-10-10T21:20:00Z", 1_760_131_200_000_000_000),
        ("2025-10-10T23:20:00.000001+02:00", 1_760_131_200_000_001_000),
        ("1760131200000000000", 1_760_131_200_000_000_000),
        (1_760_131_200_000_000_123, 1_760_131_200_000_000_123),
    ],
)
def test_times(moment: str | int, ns: int) -> None:
    assert moment_ns(moment) == ns


# ---- faults ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"clock": "2025-10-10T21:20:00"}, ["clock: '2025-10-10T21:20:00' has no zone; end it with Z for UTC"]),
        ({"clock": "noon"}, ["clock: 'noon' is no time; write 2025-10-10T21:20:00Z, or nanoseconds since 1970"]),
        ({"clock": 0}, ["clock: 0 is not a time in nanoseconds since 1970"]),
        ({"clock": "1969-10-10T21:20:00Z"}, ["clock: '1969-10-10T21:20:00Z' is before 1970 or after 2116"]),
        (
            {"mark": {}, "positions": [{"venue": "ex", "instrumnt": "PERP", "quantity": "1"}]},
            [
                "positions[0].instrumnt: there is no such key; did you mean instrument?",
                "positions[0].quantity: Expected `float | null`, got `str`",
                "positions[0].instrument: is missing",
                "mark: there is no such key; did you mean marks?",
            ],
        ),
        (
            {
                "positions": [
                    {"venue": "ex", "instrument": "PERP", "quantity": 0.00005},
                    {"venue": "ex", "instrument": "PERP", "lots": 1, "quantity": 1},
                    {"venue": "ex", "instrument": "DOGE", "lots": 1},
                    {"venue": "ex", "instrument": "BTC", "quantity": 1e18},
                ],
                "implied_volatilities": {"BTC": {"soon": 1.0}},
                "instruments": [*SMALL["instruments"], {"venue": "ex", "name": "C", "underlying": "BTC", "expiry": "x"}],
            },
            [
                "instruments[1].expiry: 'x' is no time; write 2025-10-10T21:20:00Z, or nanoseconds since 1970",
                "implied_volatilities.BTC.soon: 'soon' is no time; write 2025-10-10T21:20:00Z, or nanoseconds since 1970",
                "positions[0].quantity: 5e-05 is not a whole number of lots of 0.0001",
                "positions[1]: positions[0] is of ex PERP too",
                "positions[1]: say lots or quantity, not both",
                "positions[2].instrument: ex has no instrument DOGE, and no asset is called so",
                "positions[3].quantity: 1e+18 is more lots of 0.0001 than can be held",
            ],
        ),
        (
            {
                "venues": [{"name": "ex", "chain": "two"}, {"name": "other", "chain": "one"}],
                "marks": {"BTC": 1, "ETH": 1},
                "depths": {"ETH": 1},
                "lags": {"two": 1},
                "interest_indexes": {"other/DEBT": 1.1},
                "implied_volatilities": {"BTC": {"2025-10-10T08:00:00Z": 0.5}},
            },
            [
                "venues[0]: invalid definition: ",
                "instruments[0]: invalid definition: ",
                "positions[1]: invalid definition: ",
                "implied_volatilities.BTC.2025-10-10T08:00:00Z: out of range: ",
                "marks.ETH: unknown asset: ",
                "depths.ETH: unknown asset: ",
                "lags.two: unknown chain: ",
                "interest_indexes.other/DEBT: unknown instrument: ",
            ],
        ),
        (
            {"assets": [{"name": "BTC", "sources": {"a": 1}}], "marks": {"BTC": {"b": 1}}},
            ["marks.BTC: unknown source: b is no source of BTC"],
        ),
        (
            {"positions": [{"venue": "ex", "instrument": "BTC", "quantity": 1e9, "entry_price": 1e15}]},
            ["positions[0].cash: is more than can be held"],
        ),
        (
            {
                "instruments": [{"venue": "ex", "name": "DEBT", "contract": "loan", "underlying": "BTC"}],
                "positions": [{"venue": "ex", "instrument": "DEBT", "quantity": 5}],
            },
            ["positions[0]: DEBT is a loan: what is owed is below 0"],
        ),
        ({"clock": "\u00b2"}, ["clock: '\u00b2' is no time; write 2025-10-10T21:20:00Z, or nanoseconds since 1970"]),
        ({"clock": "9" * 5_000}, ["clock: '999"]),
        (
            {
                "instruments": [
                    {"venue": "ex", "name": "TINY", "underlying": "BTC", "lot_size": 1e-300},
                    {"venue": "ex", "name": "COIN", "underlying": "BTC", "contract": "inverse_perpetual"},
                ],
                "positions": [
                    {"venue": "ex", "instrument": "TINY", "quantity": 1e18},
                    {"venue": "ex", "instrument": "COIN", "quantity": 1e9, "entry_price": 1e-300},
                ],
            },
            [
                "positions[0].quantity: 1e+18 is more lots of 1e-300 than can be held",
                "positions[1].entry_price: 1e+09 at 1e-300 is more cash than can be held",
            ],
        ),
        (
            {
                "instruments": [{"venue": "ex", "name": "COIN", "underlying": "BTC", "contract": "inverse_perpetual"}],
                "positions": [{"venue": "ex", "instrument": "COIN", "quantity": 1, "entry_price": 1e-305}],
            },
            ["positions[0].cash: is more than can be held"],
        ),
    ],
)
def test_faults_are_told_at_once_with_their_paths(changes: dict[str, Any], expected: list[str]) -> None:
    found = faults_of(changes)
    assert len(found) == len(expected)
    for fault, beginning in zip(found, expected, strict=True):
        assert fault.startswith(beginning)


def test_what_is_no_portfolio_at_all(tmp_path: Path) -> None:
    for content, why in ((b"{", "Input data was truncated"), (b'{"clock": NaN}', "JSON is malformed"), (b"3", "Expected `object`")):
        with pytest.raises(PortfolioFault, match=why):
            parse_portfolio(content)
    with pytest.raises(PortfolioFault, match="nested too deeply"):
        parse_portfolio(b"[" * 100_000)
    large = tmp_path / "large.json"
    large.write_bytes(b" " * (PORTFOLIO_BYTES_MAX + 1))
    with pytest.raises(PortfolioFault, match="more than 4,194,304 bytes"):
        read_portfolio(large)


def test_no_more_positions_than_an_account_has() -> None:
    chains = {"venues": [{"name": f"v{k}", "chain": "one"} for k in range(17)]}
    held = [{"venue": f"v{k}", "instrument": "USD", "cash": 1} for k in range(17)]
    assert faults_of({**chains, "positions": held}) == ["positions: Expected `array` of length <= 16"]
    nine = faults_of({**chains, "positions": held[:9], "instruments": []})
    assert nine[0].startswith("positions[8]: too many: "), "an account has positions at eight venues"


# ---- models ---------------------------------------------------------------------------------------------------------------------------


def test_a_venue_sees_its_own_leg_alone() -> None:
    said = said_of(HEDGE, "--venue", "aave-v3-ethereum")
    file = json.loads(HEDGE.read_text())
    reserves = {one["name"]: one for one in file["rules"]["aave-v3-ethereum"]["parameters"]["reserves"]}
    collateral = {"BTC": 10 * 116_200, "wstETH": 200 * 4_935}
    debt = 1_400_000 * 1.0412 * 0.9999
    covered = sum(usd * reserves[asset]["liquidation_threshold"] for asset, usd in collateral.items())
    lent = sum(usd * reserves[asset]["loan_to_value"] for asset, usd in collateral.items())
    found = said["finding"]
    parts = {part["name"]: part["value"] for part in found["parts"]}
    assert said["model"] == "venue"
    assert (found["rule"], found["measure"], found["published"]) == ("aave_v3", "health_factor", True)
    assert parts["health factor"] == pytest.approx(covered / debt)
    assert parts["USDC, debt"] == pytest.approx(-debt)
    assert found["equity_usd"] == pytest.approx(sum(collateral.values()) - debt)
    assert found["equity_usd"] - found["initial_usd"] == pytest.approx(lent - debt)
    assert found["left_usd"] == pytest.approx(covered - debt)
    assert found["distance"] == pytest.approx(1 - debt / covered)
    jsonschema.Draft202012Validator(report_schema()).validate(said)
    printed = plimsoll(str(HEDGE), "--venue", "aave-v3-ethereum").output
    assert f"a fall of the collateral by {1 - debt / covered:.2%} from the venue's liquidation" in printed
    assert f"{covered - debt:,.2f}" in printed


def test_what_a_venue_cannot_say_ends_with_the_reason(tmp_path: Path) -> None:
    file = written(tmp_path, {})
    without = plimsoll(str(file), "--venue", "ex")
    assert without.exit_code == FOUND_WANTING
    assert "the file names no rule of ex: say rules.ex.rule, one of aave_v3, " in without.output


# ---- what is printed ------------------------------------------------------------------------------------------------------------------


def test_it_prints_every_term(tmp_path: Path) -> None:
    output = plimsoll(str(HEDGE)).output
    said = said_of(HEDGE)["report"]
    for amount in (said["equity_usd"], said["maintenance_usd"], said["liquidation_end_usd"], said["initial_usd"], said["close_cost_usd"]):
        assert f"{amount:,.2f}" in output
    for one in said["collateral"]:
        for term in ("base", "security", "latency", "depeg", "size", "haircut"):
            assert f"{one[term]:.2%}" in output
    for word in (
        "isolated",
        "protocol",
        "portfolio   ",
        "decides",
        "capital efficiency",
        "Binding: ",
        "ETH: losses at maintenance",
        "Greeks",
    ):
        assert word in output
    initial = plimsoll(str(written(tmp_path, {"implied_volatilities": {}}))).output
    assert "losses at initial" not in initial, "the same as at maintenance"


def test_an_account_that_cannot_be_valued_says_so(tmp_path: Path) -> None:
    result = plimsoll(str(written(tmp_path, {"marks": {}})))
    assert result.exit_code == 0
    assert "UNKNOWN (no mark" in result.output
    assert "Equity and levels" not in result.output
    lines = [line for line in result.output.splitlines() if "PERP" in line]
    assert lines[0].split()[-3:-1] == ["no", "mark"]
    assert lines[1].split()[-6:] == ["?"] * 6
    said = said_of(written(tmp_path, {"marks": {}}))
    assert (said["maintenance"], said["initial"], said["capital_efficiency"]) == (None, None, None)
    assert [one["delta"] for one in said["report"]["greeks"]["by_position"]] == [None, 0.0]


def test_by_a_set_file_with_a_preset(tmp_path: Path) -> None:
    file, sets = written(tmp_path, {}), tmp_path / "set.toml"
    sets.write_text('version = "desk-7"\npreset = "span16"\ninitial_factor = 2.0\n')
    said = said_of(file, "--parameters", str(sets))
    assert (said["parameters"], said["preset"]) == ("desk-7", "span16")
    assert said["report"]["initial_usd"] == pytest.approx(2.0 * said["report"]["maintenance_usd"])
    assert "parameters desk-7 (preset span16)" in plimsoll(str(file), "--parameters", str(sets)).output
    sets.write_text('version = "desk-7"\ninitial_factor = 0\n')
    wrong = plimsoll(str(file), "--parameters", str(sets))
    assert wrong.exit_code == FOUND_WANTING
    assert "initial_factor: " in wrong.output


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "say which portfolio"),
        (("/nowhere/p.json",), "cannot be read: No such file"),
        ((str(HEDGE), "--preset", "spam16"), "no preset is called 'spam16'"),
        ((str(HEDGE), "--preset", "span16", "--parameters", "x.toml"), "say once by what"),
    ],
)
def test_what_cannot_be_run_says_why(arguments: tuple[str, ...], why: str) -> None:
    result = plimsoll(*arguments)
    assert result.exit_code == FAULT
    assert why in result.output


def test_a_file_with_faults_ends_with_all_of_them(tmp_path: Path) -> None:
    result = plimsoll(str(written(tmp_path, {"chain": [], "marks": {"BTC": 0}})))
    assert result.exit_code == FOUND_WANTING
    assert result.output.splitlines() == [
        "plimsoll: the portfolio is not in order:",
        "  marks.BTC: Expected `float` > 0.0",
        "  chain: there is no such key; did you mean chains?",
    ]
