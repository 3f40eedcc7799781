"""European options under Black-76: price and sensitivities on the forward, for linear and for coin-settled (inverse) contracts.

Formula: F. Black, "The pricing of commodity contracts", Journal of Financial Economics 3 (1976). With s = sigma * sqrt(t),
d1 = ln(F/K)/s + s/2 and d2 = d1 - s, a call is discount * (F N(d1) - K N(d2)) and a put follows from call - put = discount * (F - K).

Units: forward and strike in the same currency (USD here) per unit of the underlying; `sigma` an annualised decimal (0.8 = 80%);
`t_years` ACT/365; `discount` the value today of 1 paid at expiry (1.0 when rates are ignored, as crypto venues do); results in the currency
of the strike. Sensitivities are plain derivatives: vega for 1.00 of volatility, theta and rho for a year and for 1.00 of rate. Venues often
show vega and rho for 0.01 and theta for a day: divide by 100 or 365.

Limits: at or after expiry (t_years <= 0) and at sigma = 0 an option is worth its discounted intrinsic value; its delta is then the one of
the exercise (half of it at the money) and its gamma and decay are 0. A nan, an infinity, or anything outside forward > 0, strike >= 0,
sigma >= 0, discount > 0, gives nan: it is for the caller to make the account UNKNOWN.

Accuracy: an out-of-the-money option is computed by itself, without the difference of two large numbers, and the in-the-money one is it
plus the intrinsic value; docs/options.md has the figures.
"""

import math
from typing import Final

from engine.jit import kernel
from engine.maths import erf_, log_, mills_ratio, norm_cdf, norm_pdf

NS_PER_YEAR: Final = 365.0 * 86_400.0 * 1e9
SQRT_HALF: Final = 0.7071067811865476


@kernel
def year_fraction(now_ns: int, expiry_ns: int) -> float:
    """ACT/365 years from `now_ns` to `expiry_ns` (both int64 nanoseconds of event time), 0 from expiry on."""
    if expiry_ns <= now_ns:
        return 0.0
    return float(expiry_ns - now_ns) / NS_PER_YEAR


@kernel
def black76_price(forward: float, strike: float, sigma: float, t_years: float, is_call: bool, discount: float) -> float:
    """Value in the currency of the strike; of an inverse contract too, where it is the USD value of the coins it pays."""
    if not _valid(forward, strike, sigma, t_years, discount):
        return math.nan
    intrinsic = max(forward - strike, 0.0) if is_call else max(strike - forward, 0.0)
    return discount * (intrinsic + _time_value(forward, strike, sigma, t_years))


@kernel
def black76_price_coin(forward: float, strike: float, sigma: float, t_years: float, is_call: bool, discount: float) -> float:
    """Value in coins of an inverse (coin-settled) contract on one coin: the price over the forward, as Deribit quotes it."""
    return black76_price(forward, strike, sigma, t_years, is_call, discount) / forward


@kernel
def black76_delta(forward: float, strike: float, sigma: float, t_years: float, is_call: bool, discount: float) -> float:
    """d price / d forward: discount * N(d1) for a call, -discount * N(-d1) for a put, each from its own tail."""
    if not _valid(forward, strike, sigma, t_years, discount):
        return math.nan
    d1 = _d1(forward, strike, sigma, t_years)
    return discount * norm_cdf(d1) if is_call else -discount * norm_cdf(-d1)


@kernel
def black76_delta_coin(forward: float, strike: float, sigma: float, t_years: float, is_call: bool, discount: float) -> float:
    """forward * d(price in coins) / d forward = delta - price / forward: the coins to hold against an inverse contract kept in coins."""
    price = black76_price(forward, strike, sigma, t_years, is_call, discount)
    return black76_delta(forward, strike, sigma, t_years, is_call, discount) - price / forward


@kernel
def black76_gamma(forward: float, strike: float, sigma: float, t_years: float, discount: float) -> float:
    """d2 price / d forward2, the same for call and put; grows without bound at the money as expiry nears, 0 from expiry on."""
    if not _valid(forward, strike, sigma, t_years, discount):
        return math.nan
    deviation = _deviation(sigma, t_years)
    if deviation == 0.0:
        return 0.0
    density = norm_pdf(_d1(forward, strike, sigma, t_years))
    return discount * density / (forward * deviation) if density > 0.0 else 0.0


@kernel
def black76_vega(forward: float, strike: float, sigma: float, t_years: float, discount: float) -> float:
    """d price / d sigma, for 1.00 of volatility, the same for call and put."""
    if not _valid(forward, strike, sigma, t_years, discount):
        return math.nan
    if t_years <= 0.0:
        return 0.0
    return discount * forward * norm_pdf(_d1(forward, strike, sigma, t_years)) * math.sqrt(t_years)


@kernel
def black76_theta(forward: float, strike: float, sigma: float, t_years: float, is_call: bool, discount: float) -> float:
    """d price / d calendar time, a year, with forward, sigma and the rate -ln(discount)/t held; 0 from expiry on."""
    if not _valid(forward, strike, sigma, t_years, discount):
        return math.nan
    if t_years <= 0.0:
        return 0.0
    decay = 0.0
    if sigma > 0.0:
        decay = -discount * forward * norm_pdf(_d1(forward, strike, sigma, t_years)) * sigma / (2.0 * math.sqrt(t_years))
    rate = -log_(discount) / t_years
    return decay + rate * black76_price(forward, strike, sigma, t_years, is_call, discount)


@kernel
def black76_rho(forward: float, strike: float, sigma: float, t_years: float, is_call: bool, discount: float) -> float:
    """d price / d rate with the forward held, for 1.00: -t * price.

    With the spot held instead, and the forward growing at the rate, it is t * (forward * delta - price): the rho that Deribit shows.
    """
    if t_years <= 0.0:
        return 0.0 * black76_price(forward, strike, sigma, t_years, is_call, discount)
    return -t_years * black76_price(forward, strike, sigma, t_years, is_call, discount)


@kernel
def _valid(forward: float, strike: float, sigma: float, t_years: float, discount: float) -> bool:
    """False for every nan too, since a nan fails each comparison."""
    return (
        0.0 < forward < math.inf
        and 0.0 <= strike < math.inf
        and 0.0 <= sigma < math.inf
        and t_years < math.inf
        and 0.0 < discount < math.inf
    )


@kernel
def _deviation(sigma: float, t_years: float) -> float:
    """sigma * sqrt(t), 0 at and after expiry whatever sigma is."""
    return sigma * math.sqrt(t_years) if t_years > 0.0 else 0.0


@kernel
def _log_ratio(a: float, b: float) -> float:
    """ln(a / b) for a, b > 0, with its relative accuracy kept where a and b are close: their difference is exact there."""
    gap = (a - b) / b
    if abs(gap) < 0.1:
        # 2 artanh(s) by its series; with s below 0.053 the first term left out is 3e-17 of the first.
        s = gap / (2.0 + gap)
        z = s * s
        series = 1.0 / 7.0 + z * (1.0 / 9.0 + z * (1.0 / 11.0))
        return 2.0 * s * (1.0 + z * (1.0 / 3.0 + z * (0.2 + z * series)))
    ratio = a / b
    if 1e-300 < ratio < 1e300:
        return log_(ratio)
    return log_(a) - log_(b)


@kernel
def _d1(forward: float, strike: float, sigma: float, t_years: float) -> float:
    """d1 and its limits: strike 0 gives inf, no deviation gives -inf, 0 or inf by moneyness."""
    if strike == 0.0:
        return math.inf
    deviation = _deviation(sigma, t_years)
    if deviation == 0.0:
        return 0.0 if forward == strike else (math.inf if forward > strike else -math.inf)
    return _log_ratio(forward, strike) / deviation + 0.5 * deviation


@kernel
def _time_value(forward: float, strike: float, sigma: float, t_years: float) -> float:
    """Undiscounted value of the out-of-the-money one of call and put, what both are worth above their intrinsic value.

    A put with forward F and strike K is worth a call with forward K and strike F, so this is the call from the lower to the higher of them.
    """
    deviation = _deviation(sigma, t_years)
    low = min(forward, strike)
    high = max(forward, strike)
    if deviation == 0.0 or low == 0.0:
        return 0.0
    distance = _log_ratio(low, high) / deviation
    d1 = distance + 0.5 * deviation
    d2 = distance - 0.5 * deviation
    if d1 < 0.0:
        # low * pdf(d1) = high * pdf(d2), so both terms share one density and the difference is between Mills ratios of moderate size.
        return max(low * norm_pdf(d1) * (mills_ratio(-d1) - mills_ratio(-d2)), 0.0)
    # d2 <= 0 <= d1, so N(d1) - N(d2) is a sum of two positive terms.
    between = 0.5 * (erf_(d1 * SQRT_HALF) + erf_(-d2 * SQRT_HALF))
    return max(low * between - (high - low) * norm_cdf(d2), 0.0)
