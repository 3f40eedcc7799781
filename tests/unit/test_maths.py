"""The engine's own functions: how far they are from the exact value, their limits, and that every CPU gets the same bits."""

import math
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal, localcontext
from pathlib import Path

import pytest

from engine import maths
from tests.twin import black76 as twin
from tests.unit import pinned_bits

DIGITS = 60
SMALLEST_SUBNORMAL = Decimal("5e-324")
Exact = Callable[..., Decimal]


def _power(x: Decimal, y: Decimal) -> Decimal:
    return (y * x.ln()).exp()


def _mills(x: Decimal) -> Decimal:
    return twin.normal_distribution(-x) / twin.normal_density(x)


EXACT: dict[str, Exact] = {
    "exp_": Decimal.exp,
    "log_": Decimal.ln,
    "pow_": _power,
    "erf_": twin.error_function,
    "erfc_": twin.complementary_error_function,
    "norm_pdf": twin.normal_density,
    "norm_cdf": twin.normal_distribution,
    "mills_ratio": _mills,
}
ULP_MAX: dict[str, float] = {
    "exp_": 1, "log_": 1, "pow_": 1, "norm_pdf": 3, "erf_": 4, "erfc_": 6, "mills_ratio": 6, "norm_cdf": 8,
}  # fmt: skip
SUBNORMAL_ERROR_MAX = 4 * SMALLEST_SUBNORMAL


def _ulps(name: str, arguments: tuple[float, ...]) -> float:
    """Distance of our result from the exact one, in ulp of the latter; subnormal results are asserted here."""
    got: float = getattr(maths, name)(*arguments)
    with localcontext() as context:
        context.prec = DIGITS
        exact = EXACT[name](*(Decimal(x) for x in arguments))
        error = abs(Decimal(got) - exact)
        if abs(exact) < sys.float_info.min:
            assert error <= SUBNORMAL_ERROR_MAX, f"{name}{arguments} = {got}, exact {exact}"
            return 0.0
        return float(error / Decimal(math.ulp(float(exact))))


def _either_sign(draw: random.Random, low: float, high: float) -> float:
    return draw.choice((-1.0, 1.0)) * math.pow(10.0, draw.uniform(low, high))


def _base_and_power(draw: random.Random, base: float) -> tuple[float, float]:
    """A power that takes the base as far as doubles go, so that an error in the logarithm shows."""
    return base, draw.uniform(-1, 1) * 700 / abs(math.log(base))


REGIONS: list[tuple[str, str, Callable[[random.Random], tuple[float, ...]]]] = [
    ("exp_", "all", lambda draw: (draw.uniform(-708, 709.78),)),
    ("exp_", "near 0", lambda draw: (_either_sign(draw, -20, 0),)),
    ("exp_", "subnormal", lambda draw: (draw.uniform(-745, -708),)),
    ("log_", "all", lambda draw: (10 ** draw.uniform(-307, 308),)),
    ("log_", "near 1", lambda draw: (1 + _either_sign(draw, -15.5, -0.5),)),
    ("log_", "subnormal", lambda draw: (10 ** draw.uniform(-323, -307.7),)),
    ("pow_", "everyday", lambda draw: (draw.uniform(0.001, 100), draw.uniform(-5, 5))),
    ("pow_", "wide", lambda draw: _base_and_power(draw, 10 ** draw.uniform(-300, 300))),
    ("pow_", "near 1", lambda draw: _base_and_power(draw, 1 + draw.choice((-1, 1)) * 10 ** draw.uniform(-15, -0.5))),
    ("erf_", "all", lambda draw: (draw.uniform(-6, 6),)),
    ("erf_", "near 0", lambda draw: (_either_sign(draw, -300, 0),)),
    ("erfc_", "all", lambda draw: (draw.uniform(-6, 26.5),)),
    ("erfc_", "subnormal", lambda draw: (draw.uniform(26.5, 28),)),
    ("norm_pdf", "all", lambda draw: (draw.uniform(-37.5, 37.5),)),
    ("norm_pdf", "subnormal", lambda draw: (draw.uniform(37.5, 40),)),
    ("norm_cdf", "all", lambda draw: (draw.uniform(-37.5, 9),)),
    ("norm_cdf", "middle", lambda draw: (draw.uniform(-2, 2),)),
    ("norm_cdf", "subnormal", lambda draw: (draw.uniform(-40, -37.5),)),
    ("mills_ratio", "all", lambda draw: (draw.uniform(0, 30),)),
    ("mills_ratio", "near 0", lambda draw: (draw.uniform(0, 1),)),
]


@pytest.mark.parametrize(("name", "region", "arguments"), REGIONS, ids=[f"{name}-{region}" for name, region, _ in REGIONS])
def test_error_is_within_the_stated_ulp(name: str, region: str, arguments: Callable[[random.Random], tuple[float, ...]]) -> None:
    draw = random.Random(f"{name} {region}")
    count = 60 if region == "subnormal" else 300  # the twin needs hundreds of digits there
    samples = [arguments(draw) for _ in range(count)]
    worst = max((_ulps(name, sample), sample) for sample in samples)
    assert worst[0] <= ULP_MAX[name], f"{name}{worst[1]} is {worst[0]:.2f} ulp off"


def test_norm_cdf_is_within_1e_15_everywhere() -> None:
    draw = random.Random(1)
    for _ in range(600):
        x = draw.uniform(-9, 9)
        assert abs(Decimal(maths.norm_cdf(x)) - twin.normal_distribution(Decimal(x))) <= Decimal("1e-15")


@pytest.mark.parametrize("x", [0.46875, 0.6629126073623884, 4.0, 5.656854249492381, 6.0, 27.3, 38.6])
def test_branches_meet(x: float) -> None:
    """Where one formula takes over from another nothing jumps by more than the stated errors of both."""
    for name in ("erf_", "erfc_", "norm_cdf", "norm_pdf", "mills_ratio"):
        for sign in (1.0, -1.0) if name != "mills_ratio" else (1.0,):
            for near in (math.nextafter(x, 0.0), x, math.nextafter(x, math.inf)):
                assert _ulps(name, (sign * near,)) <= ULP_MAX[name]


@pytest.mark.parametrize(
    ("name", "arguments", "limit"),
    [
        ("exp_", (-math.inf,), 0.0),
        ("exp_", (math.inf,), math.inf),
        ("exp_", (709.79,), math.inf),
        ("exp_", (-745.2,), 0.0),
        ("exp_", (0.0,), 1.0),
        ("exp_", (-0.0,), 1.0),
        ("log_", (0.0,), -math.inf),
        ("log_", (-0.0,), -math.inf),
        ("log_", (math.inf,), math.inf),
        ("log_", (-1.0,), math.nan),
        ("log_", (-math.inf,), math.nan),
        ("log_", (1.0,), 0.0),
        ("pow_", (0.0, 0.0), 1.0),
        ("pow_", (0.0, 3.0), 0.0),
        ("pow_", (0.0, -3.0), math.inf),
        ("pow_", (math.inf, 0.5), math.inf),
        ("pow_", (math.inf, -0.7), 0.0),
        ("pow_", (1.0, math.inf), 1.0),
        ("pow_", (0.5, math.inf), 0.0),
        ("pow_", (0.5, -math.inf), math.inf),
        ("pow_", (2.0, math.inf), math.inf),
        ("pow_", (2.0, -1e300), 0.0),
        ("pow_", (10.0, 400.0), math.inf),
        ("pow_", (10.0, -400.0), 0.0),
        ("pow_", (-2.0, 2.0), math.nan),
        ("pow_", (math.nan, 0.0), math.nan),
        ("pow_", (1.0, math.nan), math.nan),
        ("pow_", (7.3, 1.0), 7.3),
        ("pow_", (3.0, 2.0), 9.0),
        ("pow_", (9.0, 0.5), 3.0),
        ("pow_", (2.0, 1023.0), 2.0**1023),
        ("erf_", (math.inf,), 1.0),
        ("erf_", (-math.inf,), -1.0),
        ("erf_", (0.0,), 0.0),
        ("erfc_", (math.inf,), 0.0),
        ("erfc_", (-math.inf,), 2.0),
        ("erfc_", (0.0,), 1.0),
        ("norm_pdf", (math.inf,), 0.0),
        ("norm_pdf", (-math.inf,), 0.0),
        ("norm_cdf", (math.inf,), 1.0),
        ("norm_cdf", (-math.inf,), 0.0),
        ("norm_cdf", (0.0,), 0.5),
        ("mills_ratio", (math.inf,), 0.0),
        ("mills_ratio", (-0.1,), math.nan),
        *[(name, (math.nan,), math.nan) for name in EXACT if name != "pow_"],
    ],
)
def test_limits(name: str, arguments: tuple[float, ...], limit: float) -> None:
    got: float = getattr(maths, name)(*arguments)
    assert got.hex() == limit.hex()


def test_erf_is_odd_to_the_bit() -> None:
    draw = random.Random(2)
    for _ in range(1000):
        x = draw.uniform(0, 7)
        assert maths.erf_(-x) == -maths.erf_(x)


def test_pinned_bits() -> None:
    assert pinned_bits.differences() == []


@pytest.mark.parametrize(("name", "arguments", "pinned"), pinned_bits.MATHS, ids=[f"{row[0]}{row[1]}" for row in pinned_bits.MATHS])
def test_pinned_results_are_right(name: str, arguments: tuple[float, ...], pinned: str) -> None:
    assert getattr(maths, name)(*arguments) == float.fromhex(pinned)
    assert _ulps(name, arguments) <= ULP_MAX[name]


@pytest.mark.parametrize(
    "environment",
    [{"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}, {"NUMBA_DISABLE_JIT": "1"}],
    ids=["compiled for the plainest CPU of this kind", "plain Python"],
)
def test_pinned_bits_without_this_cpu(environment: dict[str, str], tmp_path: Path) -> None:
    """Compiled without any vector or fused instruction, and not compiled at all, the bits are the same."""
    _run(["-m", "tests.unit.pinned_bits"], environment, tmp_path)


CALLS = """
import re
from engine import maths, pricing
maths.exp_(1.0), maths.log_(2.0), maths.pow_(2.0, 0.3), maths.erf_(1.0), maths.erfc_(1.0), maths.norm_pdf(1.0), maths.norm_cdf(1.0)
maths.mills_ratio(1.0)
option = (100.0, 110.0, 0.5, 0.5, True, 0.99)
pricing.black76_price(*option), pricing.black76_delta(*option), pricing.black76_theta(*option)
kernels = [f for module in (maths, pricing) for f in vars(module).values() if getattr(f, "signatures", None)]
print("kernels", len(kernels))
for kernel in kernels:
    for ir in kernel.inspect_llvm().values():
        print(*("call " + name for name in re.findall(r'(?:call|invoke) [^@\\n]*@"?([\\w.$]+)', ir)), sep="\\n")
        print(*("loose " + line for line in re.findall(
            r"= f(?:add|sub|mul|div|neg|cmp) (?:fast|contract|reassoc|nnan|ninf|nsz|arcp|afn)\\b.*", ir)), sep="\\n")
    for asm in kernel.inspect_asm().values():
        print(*("fused " + name for name in re.findall(r"\\b(vfn?m(?:add|sub)\\w*|fn?m(?:add|sub|la|ls))\\b", asm)), sep="\\n")
"""


def test_kernels_call_no_maths_library_and_fuse_nothing(tmp_path: Path) -> None:
    """What the compiled code calls is on a short list: Python's and numba's entry code, each other, and what IEEE 754 defines."""
    lines = _run(["-c", CALLS], {}, tmp_path).splitlines()
    assert int(lines[0].removeprefix("kernels ")) >= 20
    called = {line.removeprefix("call ") for line in lines if line.startswith("call ")}
    allowed = re.compile(
        r"(Py\w+|_Py\w+|NRT_\w+|numba_\w+|_ZN6engine(5maths|7pricing)\w+|sqrt|llvm\.(sqrt|fabs|is\.fpclass|smax|smin|umin|umax|lifetime\.\w+)\.\w+)"
    )
    assert "sqrt" in called, "the scan found nothing"
    assert {name for name in called if not allowed.fullmatch(name)} == set()
    assert [line for line in lines if line.startswith(("loose ", "fused "))] == []


def _run(arguments: list[str], environment: dict[str, str], cache: Path) -> str:
    """Run Python with a compiler's cache of its own, so that what is looked at was compiled under this environment."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PLIMSOLL_CACHE_DIR": str(cache), **environment},
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
