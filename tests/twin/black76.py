"""Black-76 in decimal arithmetic of fifty and more digits, from the definition of each function; slow and obviously right.

It takes doubles as the exact numbers that they are, so that a difference from it is an error of the code under test.
"""

from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cache

DIGITS = 50
HALF = Decimal("0.5")


@cache
def pi(digits: int) -> Decimal:
    """Machin: pi/4 = 4 arctan(1/5) - arctan(1/239)."""
    with localcontext() as context:
        context.prec = digits + 10

        def arctan_of_inverse(m: int) -> Decimal:
            power = total = Decimal(1) / m
            n = 1
            while abs(power) > Decimal(1).scaleb(-digits - 10):
                power = -power / (m * m)
                n += 2
                total += power / n
            return total

        return 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239))


def normal_density(x: Decimal) -> Decimal:
    with localcontext() as context:
        context.prec = DIGITS + 20
        return (-x * x / 2).exp() / (2 * pi(context.prec)).sqrt()


def normal_distribution(x: Decimal) -> Decimal:
    """N(x) = 1/2 + density(x) * (x + x^3/3 + x^5/(3*5) + ...), with as many more digits as cancel in the lower tail.

    Beyond 60 deviations, where the tail is below 1e-780, it is 0 or 1.
    """
    if abs(x) > 60:
        return Decimal(int(x > 0))
    with localcontext() as context:
        context.prec = DIGITS + 20 + int(x * x / 4)
        term = total = +x
        n = 1
        while term != 0 and abs(term) > abs(total).scaleb(-context.prec):
            n += 2
            term = term * x * x / n
            total += term
        return HALF + (-x * x / 2).exp() / (2 * pi(context.prec)).sqrt() * total


def error_function(x: Decimal) -> Decimal:
    """erf(x) = 2/sqrt(pi) * exp(-x^2) * (x + 2 x^3/3 + 4 x^5/(3*5) + ...)."""
    with localcontext() as context:
        context.prec = DIGITS + 20
        term = total = +x
        n = 1
        while term != 0 and abs(term) > abs(total).scaleb(-context.prec):
            n += 2
            term = term * 2 * x * x / n
            total += term
        return 2 / pi(context.prec).sqrt() * (-x * x).exp() * total


def complementary_error_function(x: Decimal) -> Decimal:
    """erfc(x) = 2 N(-x sqrt 2)."""
    with localcontext() as context:
        context.prec = DIGITS + 20 + int(x * x / 2)
        return 2 * normal_distribution(-x * Decimal(2).sqrt())


@dataclass(frozen=True)
class Black76:
    """Value and sensitivities on the forward, each from its textbook formula."""

    price: Decimal
    delta: Decimal
    gamma: Decimal
    vega: Decimal
    theta: Decimal
    rho: Decimal


def black76(forward: float, strike: float, sigma: float, t_years: float, is_call: bool, discount: float) -> Black76:
    """Needs forward, strike, discount > 0; at no deviation the limits of the textbook formulas."""
    with localcontext() as context:
        context.prec = DIGITS
        F, K, discounted = Decimal(forward), Decimal(strike), Decimal(discount)
        sign = 1 if is_call else -1
        if sigma == 0 or t_years <= 0:
            intrinsic = max(sign * (F - K), Decimal(0))
            exercised = HALF if F == K else Decimal(int(sign * (F - K) > 0))
            t = max(Decimal(t_years), Decimal(0))
            rate = -discounted.ln() / t if t > 0 else Decimal(0)
            price = discounted * intrinsic
            return Black76(price, discounted * sign * exercised, Decimal(0), _vega_at_rest(F, K, discounted, t), rate * price, -t * price)
        s, t = Decimal(sigma), Decimal(t_years)
        deviation = s * t.sqrt()
        d1 = (F / K).ln() / deviation + deviation / 2
        d2 = d1 - deviation
        # The far tail differs from its neighbour in late digits only: carry as many as the tail has zeros.
        context.prec = DIGITS + int(min(d1 * d1, Decimal(4000)) / 4)
        d1 = (F / K).ln() / deviation + deviation / 2
        d2 = d1 - deviation
        price = discounted * sign * (F * normal_distribution(sign * d1) - K * normal_distribution(sign * d2))
        density = normal_density(d1)
        rate = -discounted.ln() / t
        return Black76(
            price=price,
            delta=discounted * sign * normal_distribution(sign * d1),
            gamma=discounted * density / (F * deviation),
            vega=discounted * F * density * t.sqrt(),
            theta=-discounted * F * density * s / (2 * t.sqrt()) + rate * price,
            rho=-t * price,
        )


def _vega_at_rest(forward: Decimal, strike: Decimal, discount: Decimal, t_years: Decimal) -> Decimal:
    """At sigma = 0 vega is 0 but at the money, where the price grows by F * density(0) * sqrt(t) per unit of volatility."""
    return discount * forward * normal_density(Decimal(0)) * t_years.sqrt() if forward == strike else Decimal(0)
