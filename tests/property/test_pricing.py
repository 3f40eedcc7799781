"""Black-76: its laws on random options, its distance from the decimal twin, its limits."""

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import NamedTuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine import pricing
from tests.twin.black76 import black76

settings.register_profile("pricing", deadline=None, derandomize=True, max_examples=400)
everyday = settings.get_profile("pricing")
slow = settings(everyday, max_examples=150)

# One rounding of the larger of forward and strike is 1.1e-16 of it; a price is a few of them.
PRICE_ERROR_MAX = 4e-16


class Option(NamedTuple):
    forward: float
    strike: float
    sigma: float
    t_years: float
    is_call: bool
    discount: float

    @property
    def scale(self) -> float:
        return max(self.forward, self.strike)


def _log_uniform(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(math.log(low), math.log(high)).map(math.exp)


FORWARDS = _log_uniform(1e-3, 1e6)
RATIOS = st.one_of(_log_uniform(0.01, 100.0), _log_uniform(0.999, 1.001), st.just(1.0))
SIGMAS = _log_uniform(0.01, 20.0)
YEARS = _log_uniform(1e-7, 5.0)
DISCOUNTS = st.floats(0.7, 1.05)
OPTIONS = st.builds(
    lambda forward, ratio, sigma, t, is_call, discount: Option(forward, forward * ratio, sigma, t, is_call, discount),
    FORWARDS, RATIOS, SIGMAS, YEARS, st.booleans(), DISCOUNTS,
)  # fmt: skip


def _price(option: Option) -> float:
    return pricing.black76_price(*option)


@given(OPTIONS)
@everyday
def test_put_call_parity(option: Option) -> None:
    call = _price(option._replace(is_call=True))
    put = _price(option._replace(is_call=False))
    assert abs(call - put - option.discount * (option.forward - option.strike)) <= PRICE_ERROR_MAX * option.scale


@given(OPTIONS)
@everyday
def test_price_is_between_intrinsic_value_and_its_cap(option: Option) -> None:
    sign = 1.0 if option.is_call else -1.0
    price = _price(option)
    assert price >= option.discount * max(sign * (option.forward - option.strike), 0.0)
    cap = option.discount * (option.forward if option.is_call else option.strike)
    assert price <= cap * (1 + PRICE_ERROR_MAX)


@given(OPTIONS, st.floats(1.0, 2.0))
@everyday
def test_price_is_monotone_in_each_argument(option: Option, factor: float) -> None:
    assume(factor > 1.0)
    price = _price(option)
    error = 2 * PRICE_ERROR_MAX * option.scale * factor
    up = 1.0 if option.is_call else -1.0
    assert up * (_price(option._replace(forward=option.forward * factor)) - price) >= -error
    assert up * (_price(option._replace(strike=option.strike * factor)) - price) <= error
    assert _price(option._replace(sigma=option.sigma * factor)) >= price - error
    assert _price(option._replace(t_years=option.t_years * factor)) >= price - error
    assert _price(option._replace(discount=option.discount * factor)) >= price - error


@given(OPTIONS, st.floats(0.0, 1.0))
@everyday
def test_price_is_convex_in_the_strike(option: Option, weight: float) -> None:
    other = option.strike * 1.3
    between = weight * option.strike + (1 - weight) * other
    mixed = weight * _price(option) + (1 - weight) * _price(option._replace(strike=other))
    assert _price(option._replace(strike=between)) <= mixed + 3 * PRICE_ERROR_MAX * max(option.forward, other)


@given(OPTIONS, st.integers(-20, 20))
@everyday
def test_the_unit_of_money_does_not_matter_to_the_bit(option: Option, exponent: int) -> None:
    scaled = option._replace(forward=math.ldexp(option.forward, exponent), strike=math.ldexp(option.strike, exponent))
    assume(_price(option) == 0.0 or _price(option) > 1e-280)
    assert _price(scaled) == math.ldexp(_price(option), exponent)


@given(OPTIONS)
@everyday
def test_greeks_keep_their_signs_and_bounds(option: Option) -> None:
    forward, strike, sigma, t, is_call, discount = option
    call_delta = pricing.black76_delta(forward, strike, sigma, t, True, discount)
    put_delta = pricing.black76_delta(forward, strike, sigma, t, False, discount)
    assert 0.0 <= call_delta <= discount
    assert -discount <= put_delta <= 0.0
    assert abs(call_delta - put_delta - discount) <= 4e-16
    assert pricing.black76_gamma(forward, strike, sigma, t, discount) >= 0.0
    assert pricing.black76_vega(forward, strike, sigma, t, discount) >= 0.0
    assert pricing.black76_theta(forward, strike, sigma, t, is_call, 1.0) <= 0.0
    assert pricing.black76_rho(forward, strike, sigma, t, is_call, discount) <= 0.0


@given(OPTIONS)
@slow
def test_price_and_greeks_agree_with_the_twin(option: Option) -> None:
    forward, strike, sigma, t, _, discount = option
    exact = black76(*option)
    deviation = sigma * math.sqrt(t)
    assert abs(Decimal(_price(option)) - exact.price) <= Decimal(PRICE_ERROR_MAX * option.scale)
    # d1 is a rounded double: what is left of an error in the far tail is d1 times its rounding, and 1/deviation times that of ln(F/K).
    assume(abs(math.log(forward / strike)) / deviation < 30.0)
    tolerance = 1e-13 + 1e-14 / deviation
    got = {
        "price": _price(option),
        "delta": pricing.black76_delta(*option),
        "gamma": pricing.black76_gamma(forward, strike, sigma, t, discount),
        "vega": pricing.black76_vega(forward, strike, sigma, t, discount),
        "rho": pricing.black76_rho(*option),
    }
    for name, value in got.items():
        expected: Decimal = getattr(exact, name)
        if abs(expected) > Decimal("1e-290"):
            assert abs(Decimal(value) / expected - 1) <= Decimal(tolerance), name
    # theta is a difference of decay and interest, so its error is relative to the larger of the two.
    decay = exact.vega * Decimal(sigma / (2 * t))
    interest = abs(exact.theta + decay)
    error = abs(Decimal(pricing.black76_theta(*option)) - exact.theta)
    assert error <= Decimal(tolerance) * max(decay, interest) + Decimal("1e-290")


LOG_RATIO_ERROR_MAX = Decimal("2e-15")


def _log_ratio_error(a: float, b: float) -> Decimal:
    with localcontext() as context:
        context.prec = 50
        return abs(Decimal(pricing._log_ratio(a, b)) / (Decimal(a).ln() - Decimal(b).ln()) - 1)


@given(FORWARDS, st.one_of(_log_uniform(0.5, 2.0), _log_uniform(0.9, 1.1), _log_uniform(0.99999, 1.00001), _log_uniform(1e-300, 1e290)))
@slow
def test_moneyness_keeps_its_relative_accuracy(forward: float, ratio: float) -> None:
    assume(forward != forward * ratio)
    assert _log_ratio_error(forward, forward * ratio) <= LOG_RATIO_ERROR_MAX


@pytest.mark.parametrize(("a", "b"), [(1e300, 1e-300), (1e-300, 1e300), (1.7e308, 1.0), (1.7e308, 1.6e308), (5e-324, 1e-310)])
def test_moneyness_at_the_ends_of_the_doubles(a: float, b: float) -> None:
    assert _log_ratio_error(a, b) <= LOG_RATIO_ERROR_MAX


@given(OPTIONS)
@everyday
def test_inverse_contract_is_the_linear_one_in_coins(option: Option) -> None:
    coins = pricing.black76_price_coin(*option)
    assert coins == _price(option) / option.forward
    assert abs(coins * option.forward - _price(option)) <= 2 * math.ulp(_price(option))


@given(OPTIONS)
@slow
def test_coin_delta_is_the_slope_of_the_price_in_coins(option: Option) -> None:
    deviation = option.sigma * math.sqrt(option.t_years)
    assume(0.02 < deviation < 5.0)
    step = 1e-5 * deviation
    up, down = (pricing.black76_price_coin(*option._replace(forward=option.forward * x)) for x in (1 + step, 1 - step))
    slope = (up - down) / (2 * step)
    assert pricing.black76_delta_coin(*option) == pytest.approx(slope, rel=1e-6, abs=1e-6 * max(1.0, option.strike / option.forward))


@pytest.mark.parametrize("is_call", [True, False])
@pytest.mark.parametrize(("sigma", "t_years"), [(0.0, 0.5), (0.8, 0.0), (0.8, -0.1), (0.0, 0.0), (0.8, -math.inf)])
@pytest.mark.parametrize("strike", [0.0, 90.0, 100.0, 130.0])
def test_without_time_or_volatility_what_is_left_is_the_exercise(strike: float, sigma: float, t_years: float, is_call: bool) -> None:
    sign = 1.0 if is_call else -1.0
    option = Option(100.0, strike, sigma, t_years, is_call, 0.9)
    assert _price(option) == 0.9 * max(sign * (100.0 - strike), 0.0)
    exercised = 0.5 if strike == 100.0 else float(sign * (100.0 - strike) > 0)
    assert pricing.black76_delta(*option) == sign * 0.9 * exercised
    assert pricing.black76_gamma(100.0, strike, sigma, t_years, 0.9) == 0.0
    at_the_money_and_alive = strike == 100.0 and t_years > 0
    assert (pricing.black76_vega(100.0, strike, sigma, t_years, 0.9) > 0.0) == at_the_money_and_alive
    if t_years <= 0:
        assert pricing.black76_theta(*option) == 0.0
        assert pricing.black76_rho(*option) == 0.0
    elif strike > 0.0:
        exact = black76(*option)
        assert pricing.black76_theta(*option) == pytest.approx(float(exact.theta), rel=1e-14)
        assert pricing.black76_rho(*option) == pytest.approx(float(exact.rho), rel=1e-14)


@pytest.mark.parametrize("is_call", [True, False])
def test_price_is_continuous_into_its_limits(is_call: bool) -> None:
    for strike in (60.0, 99.9, 100.0, 100.1, 160.0):
        resting = pricing.black76_price(100.0, strike, 0.8, 0.0, is_call, 1.0)
        for t in (1e-16, 1e-100, 1e-300, 5e-324):
            assert pricing.black76_price(100.0, strike, 0.8, t, is_call, 1.0) == pytest.approx(resting, abs=4e-7)
        for sigma in (1e-9, 1e-100, 5e-324):
            assert pricing.black76_price(100.0, strike, sigma, 1.0, is_call, 1.0) == pytest.approx(resting, abs=1e-7)
        unbounded = 100.0 if is_call else strike
        for sigma in (1e3, 1e100, 1e308):
            assert pricing.black76_price(100.0, strike, sigma, 1.0, is_call, 1.0) == unbounded


def test_far_from_the_money_nothing_is_lost() -> None:
    """Deep in the money an option is its intrinsic value to the last bit; far out it keeps its tiny value until that is 0, never less."""
    assert pricing.black76_price(100.0, 1e-9, 0.5, 0.1, True, 1.0) == 100.0 - 1e-9
    assert pricing.black76_price(100.0, 1e9, 0.5, 0.1, False, 1.0) == 1e9 - 100.0
    tiny = pricing.black76_price(100.0, 1000.0, 0.5, 0.1, True, 1.0)
    assert 0.0 < tiny < 1e-40
    assert tiny == pytest.approx(float(black76(100.0, 1000.0, 0.5, 0.1, True, 1.0).price), rel=1e-12, abs=0)
    assert pricing.black76_price(100.0, 1e300, 0.5, 0.1, True, 1.0) == 0.0
    assert pricing.black76_price(1e-300, 1e300, 0.5, 0.1, True, 1.0) == 0.0
    assert pricing.black76_price(1e300, 1e-300, 0.5, 0.1, True, 1.0) == 1e300


VALID = Option(100.0, 110.0, 0.5, 0.5, True, 0.99)
NOT_POSITIVE_NUMBERS = (math.nan, math.inf, -1.0)
INVALID = [
    *[VALID._replace(forward=value) for value in (*NOT_POSITIVE_NUMBERS, 0.0)],
    *[VALID._replace(strike=value) for value in NOT_POSITIVE_NUMBERS],
    *[VALID._replace(sigma=value) for value in NOT_POSITIVE_NUMBERS],
    *[VALID._replace(discount=value) for value in (*NOT_POSITIVE_NUMBERS, 0.0)],
    *[VALID._replace(t_years=value) for value in (math.nan, math.inf)],
]


@pytest.mark.parametrize("option", INVALID)
def test_what_is_no_option_has_no_value(option: Option) -> None:
    forward, strike, sigma, t, _, discount = option
    both: list[Callable[..., float]] = [
        pricing.black76_price, pricing.black76_price_coin, pricing.black76_delta, pricing.black76_delta_coin, pricing.black76_theta,
        pricing.black76_rho,
    ]  # fmt: skip
    for is_call in (True, False):
        assert all(math.isnan(f(*option._replace(is_call=is_call))) for f in both)
    assert math.isnan(pricing.black76_gamma(forward, strike, sigma, t, discount))
    assert math.isnan(pricing.black76_vega(forward, strike, sigma, t, discount))


@given(st.integers(1_500_000_000 * 10**9, 2_000_000_000 * 10**9), st.integers(0, 5 * 365 * 86_400 * 10**9))
@everyday
def test_year_fraction_is_act_365(now_ns: int, rest_ns: int) -> None:
    years = pricing.year_fraction(now_ns, now_ns + rest_ns)
    exact = Fraction(rest_ns, 365 * 86_400 * 10**9)
    assert abs(Fraction(years) - exact) <= exact * Fraction(1, 2**52)
    assert pricing.year_fraction(now_ns + rest_ns, now_ns) == 0.0


def test_year_fraction_of_a_year_and_a_day() -> None:
    day_ns = 86_400 * 10**9
    assert pricing.year_fraction(10 * day_ns, 375 * day_ns) == 1.0
    assert pricing.year_fraction(10 * day_ns, 11 * day_ns) == 1 / 365
    assert pricing.year_fraction(10 * day_ns, 10 * day_ns) == 0.0
