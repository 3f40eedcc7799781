"""Exponential, logarithm, power, error function and normal distribution, with the same bits on every CPU.

A math library picks its code by the CPU it finds (with or without fused multiply-add), so two workers could disagree about who is under
water. These functions use +, -, *, /, the square root and bit patterns only, each of which IEEE 754 defines to the last bit of a double;
they are compiled without fast-math, so nothing is reordered or fused. They also run as plain Python and give the same bits there.

Coefficients: exp and log after FDLIBM (Sun Microsystems, 1993, e_exp.c and e_log.c); error function after W. J. Cody, "Rational Chebyshev
approximations for the error function", Mathematics of Computation 23 (1969). The rest (power, normal distribution, arguments in two
doubles after Dekker, 1971) is built on them.

Largest errors, asserted by tests/unit/test_maths.py, in units in the last place (ulp) of a normal result, the far tails included: exp, log,
pow 1; norm_pdf 3; erf 4; erfc, mills_ratio 6; norm_cdf 8. Subnormal results are within 4 smallest subnormals. A nan in is a nan out.
"""

import math
from typing import Final

import numpy as np

from engine.jit import kernel

# ln 2 in two parts; the high one ends in zeros, so that k * LN2_HIGH is exact for every exponent k of a double.
LN2_HIGH: Final = 6.93147180369123816490e-01
LN2_LOW: Final = 1.90821492927058770002e-10
INVERSE_LN2: Final = 1.44269504088896338700e00
SQRT_HALF: Final = 0.7071067811865476
INVERSE_SQRT_PI: Final = 0.5641895835477563
INVERSE_SQRT_2PI: Final = 0.3989422804014327
SQRT_HALF_PI: Final = 1.2533141373155003
TWO_THIRDS_HIGH: Final = 0.6666666666666666
TWO_THIRDS_LOW: Final = 3.700743415417188e-17

EXP_OVERFLOW: Final = 709.782712893384  # above it exp is inf
EXP_UNDERFLOW: Final = -745.1332191019412  # below it exp is 0
TWO_54: Final = 18014398509481984.0
SPLITTER: Final = 134217729.0  # 2**27 + 1, cuts a double into two halves of 26 bits
ERF_SMALL: Final = 0.46875  # Cody's first interval
ERF_ONE: Final = 6.0  # from here on erf is 1 to the last bit
ERFC_UNDERFLOW: Final = 27.3
NORMAL_UNDERFLOW: Final = 38.6
NORMAL_SMALL: Final = 0.6629126073623884  # ERF_SMALL * sqrt(2)


@kernel
def exp_(x: float) -> float:
    """e to the x. exp_(-inf) = 0, exp_(inf) = inf; overflows to inf, underflows through the subnormals to 0."""
    return _exp_of_sum(x, 0.0)


@kernel
def log_(x: float) -> float:
    """Natural logarithm. log_(0) = -inf, log_(inf) = inf, nan below zero; subnormals are exact inputs like others."""
    if x != x or x < 0.0:
        return math.nan
    if x == 0.0:
        return -math.inf
    if x == math.inf:
        return x
    m, k = _mantissa_and_exponent(x)
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01))
    odd = z * (6.666666666666735130e-01 + w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)))
    half_square = 0.5 * f * f
    return k * LN2_HIGH - ((half_square - (s * (half_square + (even + odd)) + k * LN2_LOW)) - f)


@kernel
def pow_(x: float, y: float) -> float:
    """x to the y for x >= 0, with the usual limits (0, 1 and inf; x to the 0 is 1).

    Differs from the C function in two points, both on the safe side: a nan in either argument is a nan out, and so is every x below zero.
    """
    if x != x or y != y or x < 0.0:
        return math.nan
    if y == 0.0 or x == 1.0:
        return 1.0
    if y == 1.0:
        return x
    if y == 2.0:
        return x * x
    if y == 0.5:
        return math.sqrt(x)
    if x == 0.0 or x == math.inf:
        return math.inf if (x > 1.0) == (y > 0.0) else 0.0
    high, low = _log_in_two(x)
    if abs(y * high) > 800.0:  # far beyond the range of a double; an infinite y too, since high is not 0
        return math.inf if y * high > 0.0 else 0.0
    product, rest = _product_in_two(y, high)
    return _exp_of_sum(product, rest + y * low)


@kernel
def erf_(x: float) -> float:
    """Error function, 2/sqrt(pi) * integral of exp(-t^2) from 0 to x; odd, -1 to 1."""
    y = abs(x)
    if y <= ERF_SMALL:
        return _erf_small(x)
    if y >= ERF_ONE:
        return 1.0 if x > 0.0 else -1.0
    value = 1.0 - _exp_of_minus_square(y) * _erfcx(y)
    return value if x > 0.0 else -value


@kernel
def erfc_(x: float) -> float:
    """1 - erf(x) without cancellation: keeps its relative accuracy until it underflows near x = 27; 2 at -inf, 0 at inf."""
    y = abs(x)
    if y <= ERF_SMALL:
        return 1.0 - _erf_small(x)
    if y >= ERFC_UNDERFLOW:
        return 0.0 if x > 0.0 else 2.0
    tail = _exp_of_minus_square(y) * _erfcx(y)
    return tail if x > 0.0 else 2.0 - tail


@kernel
def norm_pdf(x: float) -> float:
    """Density of the standard normal distribution; 0 beyond 38.6 standard deviations."""
    y = abs(x)
    if y >= NORMAL_UNDERFLOW:
        return 0.0
    return INVERSE_SQRT_2PI * _exp_of_minus_half_square(y)


@kernel
def norm_cdf(x: float) -> float:
    """Standard normal distribution function; its lower tail keeps its relative accuracy until it underflows near x = -38."""
    y = abs(x)
    if y <= NORMAL_SMALL:
        return 0.5 + 0.5 * _erf_small(x * SQRT_HALF)
    if y >= NORMAL_UNDERFLOW:
        return 1.0 if x > 0.0 else 0.0
    # erfcx forgives the rounding of y / sqrt(2); exp(-y^2/2) would not, so it gets the square in two doubles.
    tail = 0.5 * _exp_of_minus_half_square(y) * _erfcx(y * SQRT_HALF)
    return 1.0 - tail if x > 0.0 else tail


@kernel
def mills_ratio(x: float) -> float:
    """norm_cdf(-x) / norm_pdf(x) for x >= 0 (1/x for large x), which neither under- nor overflows; nan below zero."""
    if x != x or x < 0.0:
        return math.nan
    return SQRT_HALF_PI * _erfcx(x * SQRT_HALF)


@kernel
def _bits(x: float) -> int:
    return int(np.float64(x).view(np.int64))


@kernel
def _float_of_bits(bits: int) -> float:
    return float(np.int64(bits).view(np.float64))


@kernel
def _power_of_two(k: int) -> float:
    """2**k for -1022 <= k <= 1023."""
    return _float_of_bits((k + 1023) << 52)


@kernel
def _mantissa_and_exponent(x: float) -> tuple[float, float]:
    """x = m * 2**k with m in [sqrt(1/2), sqrt(2)), for finite x > 0. The exponent comes as a float."""
    k = 0
    if x < 2.2250738585072014e-308:
        x *= TWO_54
        k = -54
    bits = _bits(x)
    k += (bits >> 52) - 1023
    m = _float_of_bits((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000)
    if m >= 1.4142135623730951:
        m *= 0.5
        k += 1
    return m, float(k)


@kernel
def _product_in_two(a: float, b: float) -> tuple[float, float]:
    """a * b as the rounded product and its rounding error, exactly (Dekker), for factors and products far from over- and underflow."""
    p = a * b
    t = SPLITTER * a
    a_high = t - (t - a)
    a_low = a - a_high
    t = SPLITTER * b
    b_high = t - (t - b)
    b_low = b - b_high
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


@kernel
def _exp_of_sum(high: float, low: float) -> float:
    """exp(high + low), where low is at most a few ulp of high: the error of a rounded argument would be magnified by the argument."""
    if high != high:
        return high
    if high > EXP_OVERFLOW:
        return math.inf
    if high < EXP_UNDERFLOW:
        return 0.0
    k = int(high * INVERSE_LN2 + (0.5 if high >= 0.0 else -0.5))
    r_high = high - k * LN2_HIGH
    r_low = k * LN2_LOW - low
    r = r_high - r_low
    z = r * r
    c = r - z * (
        1.66666666666666019037e-01
        + z
        * (
            -2.77777777770155933842e-03
            + z * (6.61375632143793436117e-05 + z * (-1.65339022054652515390e-06 + z * 4.13813679705723846039e-08))
        )
    )
    y = 1.0 - ((r_low - (r * c) / (2.0 - c)) - r_high)
    if k > 1023:
        return y * 2.0 * _power_of_two(k - 1)
    if k >= -1021:
        return y * _power_of_two(k)
    return y * _power_of_two(k + 1000) * 9.332636185032189e-302  # 2**-1000: one rounding, into the subnormals


@kernel
def _log_in_two(x: float) -> tuple[float, float]:
    """log(x) as a sum of two doubles with about 63 good bits, for finite x > 0: log m = 2 s + 2/3 s^3 + s^5 ..., s = (m - 1) / (m + 1)."""
    m, k = _mantissa_and_exponent(x)
    f = m - 1.0
    d = m + 1.0
    d_low = (1.0 - d) + m if m < 1.0 else (m - d) + 1.0
    s = f / d
    p, e = _product_in_two(s, d)
    s_low = (((f - p) - e) - s * d_low) / d
    z, z_low = _product_in_two(s, s)
    z_low += 2.0 * s * s_low
    cube, cube_low = _product_in_two(s, z)
    cube_low += s * z_low + s_low * z
    third, third_low = _product_in_two(TWO_THIRDS_HIGH, cube)
    third_low += TWO_THIRDS_HIGH * cube_low + TWO_THIRDS_LOW * cube
    series = 0.0
    for n in range(25, 3, -2):
        series = series * z + 2.0 / n
    # Summed from large to small, each sum with its rounding error: k ln2, 2 s, 2/3 s^3, and what is left of all of them.
    a = k * LN2_HIGH
    b = 2.0 * s
    high = a + b
    b_seen = high - a
    low = (a - (high - b_seen)) + (b - b_seen)
    total = high + third
    third_seen = total - high
    low += (high - (total - third_seen)) + (third - third_seen)
    low += k * LN2_LOW + (2.0 * s_low + third_low + series * (z * cube))
    result = total + low
    return result, (total - result) + low


@kernel
def _exp_of_minus_square(y: float) -> float:
    square, rest = _product_in_two(y, y)
    return _exp_of_sum(-square, -rest)


@kernel
def _exp_of_minus_half_square(y: float) -> float:
    square, rest = _product_in_two(y, y)
    return _exp_of_sum(-0.5 * square, -0.5 * rest)


@kernel
def _erf_small(x: float) -> float:
    """erf for |x| <= 0.46875."""
    z = x * x
    top = 1.85777706184603153e-1
    top = top * z + 3.16112374387056560e00
    top = top * z + 1.13864154151050156e02
    top = top * z + 3.77485237685302021e02
    top = top * z + 3.20937758913846947e03
    bottom = z + 2.36012909523441209e01
    bottom = bottom * z + 2.44024637934444173e02
    bottom = bottom * z + 1.28261652607737228e03
    bottom = bottom * z + 2.84423683343917062e03
    return x * top / bottom


@kernel
def _erfcx(y: float) -> float:
    """exp(y^2) * erfc(y) for y >= 0."""
    if y <= ERF_SMALL:
        return _exp_of_sum(y * y, 0.0) * (1.0 - _erf_small(y))
    if y <= 4.0:
        top = 2.15311535474403846e-8
        top = top * y + 5.64188496988670089e-1
        top = top * y + 8.88314979438837594e0
        top = top * y + 6.61191906371416295e01
        top = top * y + 2.98635138197400131e02
        top = top * y + 8.81952221241769090e02
        top = top * y + 1.71204761263407058e03
        top = top * y + 2.05107837782607147e03
        top = top * y + 1.23033935479799725e03
        bottom = y + 1.57449261107098347e01
        bottom = bottom * y + 1.17693950891312499e02
        bottom = bottom * y + 5.37181101862009858e02
        bottom = bottom * y + 1.62138957456669019e03
        bottom = bottom * y + 3.29079923573345963e03
        bottom = bottom * y + 4.36261909014324716e03
        bottom = bottom * y + 3.43936767414372164e03
        bottom = bottom * y + 1.23033935480374942e03
        return top / bottom
    z = 1.0 / (y * y)
    top = 1.63153871373020978e-2
    top = top * z + 3.05326634961232344e-1
    top = top * z + 3.60344899949804439e-1
    top = top * z + 1.25781726111229246e-1
    top = top * z + 1.60837851487422766e-2
    top = top * z + 6.58749161529837803e-4
    bottom = z + 2.56852019228982242e00
    bottom = bottom * z + 1.87295284992346725e00
    bottom = bottom * z + 5.27905102951428412e-1
    bottom = bottom * z + 6.05183413124413191e-2
    bottom = bottom * z + 2.33520497626869185e-3
    return (INVERSE_SQRT_PI - z * top / bottom) / y
