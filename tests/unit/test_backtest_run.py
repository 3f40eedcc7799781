"""The episodes are those of the days, the sets differ in what they should, and a run gives the same bytes each time."""

import math
from pathlib import Path

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner

from engine.reasons import State
from streams.backtest import episodes, world
from streams.backtest.episodes import NAMES, Episode, load
from streams.backtest.extract import CRASH, DEPEG, HERE, MILD
from streams.backtest.page import page
from streams.backtest.play import Played, play
from streams.backtest.population import kinds_of, open_account, population
from streams.backtest.report import findings, markdown
from streams.backtest.run import HORIZONS, SETS, Options, as_data, backtest, promised
from streams.command_line import FAULT, app

TINY = Options(accounts=16, episodes=(DEPEG,), minutes=90)


def column(name: str, asset: str, source: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return next(series.values for series in load(name).prices if (series.asset, series.source) == (asset, source))


def drawdown(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    known = values[~np.isnan(values)]
    return float((known / np.maximum.accumulate(known) - 1.0).min())


def test_the_facts_of_the_three_episodes() -> None:
    # By the closes of minutes; what the days are known for is said of their trades.
    assert np.nanmin(column(DEPEG, "USDC", "binanceus")) == pytest.approx(0.8748, abs=5e-5)  # 11 March 07:50
    assert np.nanargmin(column(DEPEG, "USDC", "binanceus")) == 2 * 1440 + 7 * 60 + 51
    assert np.nanmax(column(DEPEG, "USDT", "binanceus")) == pytest.approx(1.0166, abs=1e-4)
    ether = column(MILD, "ETH", "binance-perp")
    assert np.nanmin(ether) / ether[0] - 1.0 == pytest.approx(-0.158, abs=0.001)  # its trades went down to -16.4 % of the first
    assert drawdown(ether) == pytest.approx(-0.172, abs=0.001)
    assert drawdown(column(MILD, "BTC", "binance-perp")) == pytest.approx(-0.077, abs=0.001)
    assert np.nanmin(column(CRASH, "USDe", "binance")) < 0.70
    assert 102_000 < np.nanmin(column(CRASH, "BTC", "binance-coin-mark")) < 106_000
    assert [(load(name).minutes, len(load(name).prices), len(load(name).sigmas)) for name in NAMES] == [
        (1440, 12, 2),
        (7200, 9, 0),
        (8640, 4, 0),
    ]


def test_data_are_small_and_every_series_is_known_from_the_start() -> None:
    assert sum(path.stat().st_size for path in HERE.iterdir()) < 1_000_000
    for name in NAMES:
        episode = load(name)
        for series in [*episode.prices, *episode.sigmas]:
            assert len(series.values) == episode.minutes + 1
            assert series.values[0] > 0.0
            assert not (series.values <= 0.0).any()
        assert set(episodes.TITLES) == set(episodes.CALM_MINUTES) == set(episodes.SHORT) == set(NAMES)


def opened(name: str, accounts: int = 80) -> tuple[Episode, Played]:
    episode = load(name)
    openings = population(episode, accounts)
    episode = episode.cut(15)
    return episode, play(episode, openings, world.adaptive(), "test")


@pytest.mark.parametrize("name", NAMES)
def test_everybody_opens_in_good_health(name: str) -> None:
    episode, played = opened(name)
    assert set(played.kinds) == set(kinds_of(episode))
    assert (played.state[0] == State.HEALTHY).all()
    assert np.isfinite(played.unhaircut).all()
    assert (played.maintenance >= 0.0).all()
    assert (played.initial >= played.maintenance).all()
    assert (played.maintenance.sum(axis=0) > 0.0).mean() > 0.9


def test_a_frozen_position_loses_what_its_price_loses() -> None:
    episode = load(MILD).cut(60)
    one = open_account(episode, "one", "long", [("binance", "USD", 50_000.0), ("binance", "BTC-PERP", 1.0)])
    played = play(episode, [one], world.adaptive(), "test")
    price = column(MILD, "BTC", "binance-perp")
    assert played.unhaircut[0, 0] == pytest.approx(50_000.0, abs=1.0)  # bought at a whole tick
    assert played.unhaircut[60, 0] - played.unhaircut[0, 0] == pytest.approx(price[60] - price[0], abs=1e-6)
    # Three deviations of the class's volatility over a day, at the first minute: 0.8 at maintenance, no haircut but of custody on dollars.
    expected = 3.0 * 0.8 * math.sqrt(1.0 / 365.0) * price[0]
    assert played.maintenance[0, 0] >= expected * (1.0 - 1e-9)
    assert played.maintenance[0, 0] == pytest.approx(expected, rel=0.25)
    assert played.haircut[0, 0] == pytest.approx(500.0)


def test_kinds_follow_what_the_episode_has() -> None:
    assert "option_seller" in kinds_of(load(CRASH))
    assert "option_seller" not in kinds_of(load(MILD))
    assert "stable_collateral" not in kinds_of(load(MILD))
    assert "spread" not in kinds_of(load(DEPEG))


def test_another_seed_draws_others_and_the_same_seed_the_same() -> None:
    episode = load(MILD)
    assert population(episode, 40, 1) == population(episode, 40, 1)
    assert population(episode, 40, 1) != population(episode, 40, 2)


def test_static_values_are_the_means_of_what_adaptive_ones_were() -> None:
    sigmas = {"major": [0.4, 1.0], "stable": [0.03]}
    fixed = world.validated(world.static(world.DAY_S, sigmas))
    moving = world.validated(world.adaptive())
    ranges = [world.scan_range(world.adaptive(), "major", sigma) for sigma in sigmas["major"]]
    major = fixed.classes["major"]
    assert major.scan_floor == major.scan_cap == pytest.approx(sum(ranges) / 2)
    assert major.sigma_floor == major.sigma_cap == pytest.approx(0.7)
    assert (major.vol_coefficient, fixed.classes["stable"].depeg_coefficient, fixed.breakers_enabled) == (0.0, 0.0, False)
    assert major.base_haircut == moving.classes["major"].base_haircut
    assert fixed.classes["alt"].sigma_cap == moving.classes["alt"].sigma_ref  # nothing was seen of it


def test_an_hour_is_a_smaller_day() -> None:
    day, hour = world.validated(world.adaptive()), world.validated(world.adaptive(3600.0))
    assert hour.horizon_s == 3600.0
    assert hour.classes["alt"].scan_floor == pytest.approx(day.classes["alt"].scan_floor / math.sqrt(24.0))
    assert world.scan_range(world.adaptive(3600.0), "alt", 1.2) == pytest.approx(
        world.scan_range(world.adaptive(), "alt", 1.2) / math.sqrt(24.0)
    )


def test_what_is_promised_follows_from_the_parameters() -> None:
    assert promised(Options())["maintenance"] == pytest.approx(0.00135, abs=1e-6)
    assert promised(Options())["initial"] == pytest.approx(4.81e-5, abs=1e-7)
    assert promised(Options(confidence=0.99)) == pytest.approx({"maintenance": 0.01, "initial": 0.01, "covered": 0.01})


def test_a_run_gives_the_same_bytes_again_and_says_what_it_found() -> None:
    results = backtest(TINY)
    data = orjson.dumps(as_data(results))
    assert data == orjson.dumps(as_data(backtest(TINY)))
    episode = orjson.loads(data)["episodes"][DEPEG]
    assert set(episode) >= {f"{horizon}/{chosen}" for horizon in HORIZONS for chosen in SETS}
    found = episode["hour/adaptive"]["breaches"]["all"]["maintenance"]
    assert found["trials"] == sum(episode["kinds"].values())  # one window of an hour in an hour and a half
    assert found["violations"] + found["windows_hit"] >= 0
    assert len(findings(results)) >= 4
    text = markdown(results)
    assert "Promised probability" in text
    assert "of $" not in text
    html = page(results)
    assert html.count("<table>") == 5
    assert "plot-3" in html


def test_the_command_writes_what_it_is_asked_for(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    begin, end = "<!-- backtest: made by `python -m streams.command_line backtest --docs`, not by hand -->", "<!-- /backtest -->"
    document.write_text(f"before\n{begin}\nof yesterday\n{end}\nafter\n")
    files = {name: tmp_path / "out" / name for name in ("a.json", "a.html")}
    options = ["--episode", MILD, "--accounts", "8", "--minutes", "61", "--confidence", "0.99", "--docs", str(document)]
    done = CliRunner().invoke(app, ["backtest", *options, "--json", str(files["a.json"]), "--html", str(files["a.html"])])
    assert done.exit_code == 0, done.output
    assert "What it says" in done.output
    assert orjson.loads(files["a.json"].read_bytes())["promised"]["maintenance"] == pytest.approx(0.01)
    assert files["a.html"].read_text().startswith("<!doctype html>")
    text = document.read_text()
    assert text.startswith(f"before\n{begin}\n\n1 episode, 6 accounts")
    assert text.endswith(f"{end}\nafter\n")
    assert "of yesterday" not in text


def test_a_folder_without_prices_is_a_fault(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["backtest", "--episode", DEPEG, "--minutes", "1", "--data", str(tmp_path)])
    assert done.exit_code == FAULT
    assert "usdc_depeg_2023_03" in done.output


def test_what_the_book_refuses_ends_the_run() -> None:
    episode = load(MILD).cut(0)
    one = open_account(episode, "one", "long", [("binance", "USD", 50.0)])
    with pytest.raises(ValueError, match="refused"):
        play(episode, [one._replace(fills=[*one.fills, *one.fills])], world.adaptive(), "test")
