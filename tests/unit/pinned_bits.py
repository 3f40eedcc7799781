"""Exact results of the engine's own functions: whoever gets other bits must not run a worker beside those who get these.

`python -m tests.unit.pinned_bits` prints what differs on this machine and ends with 1 if anything does.
"""

import sys
from collections.abc import Callable
from typing import Final

from engine import maths, pricing

# (function, arguments, result as `float.hex`). A change here changes decisions: it needs a new engine version.
MATHS: Final[tuple[tuple[str, tuple[float, ...], str], ...]] = (
    ("exp_", (0.0,), "0x1.0000000000000p+0"),
    ("exp_", (1.0,), "0x1.5bf0a8b14576ap+1"),
    ("exp_", (-1.0,), "0x1.78b56362cef38p-2"),
    ("exp_", (0.1,), "0x1.1aec7b35a00d4p+0"),
    ("exp_", (-0.1,), "0x1.cf46d99d52b3ap-1"),
    ("exp_", (1e-09,), "0x1.000000044b830p+0"),
    ("exp_", (0.34657359027997264,), "0x1.6a09e667f3bccp+0"),
    ("exp_", (10.3,), "0x1.d09279b492870p+14"),
    ("exp_", (-30.7,), "0x1.a28d4059f9244p-45"),
    ("exp_", (123.456,), "0x1.1428e1cbc0143p+178"),
    ("exp_", (-700.25,), "0x1.af5fe9a485c8ep-1011"),
    ("exp_", (709.782712893384,), "0x1.fffffffffff2ap+1023"),
    ("exp_", (-708.5,), "0x0.e6cf6d08897acp-1022"),
    ("exp_", (-740.0,), "0x0.0000000000055p-1022"),
    ("exp_", (-745.1332191019412,), "0x0.0p+0"),
    ("log_", (1.0,), "0x0.0p+0"),
    ("log_", (2.0,), "0x1.62e42fefa39efp-1"),
    ("log_", (0.5,), "-0x1.62e42fefa39efp-1"),
    ("log_", (1.0000000000000002,), "0x1.fffffffffffffp-53"),
    ("log_", (0.9999999999999999,), "-0x1.0000000000000p-53"),
    ("log_", (1.4142135623730951,), "0x1.62e42fefa39f0p-2"),
    ("log_", (0.7071067811865476,), "-0x1.62e42fefa39eep-2"),
    ("log_", (3.141592653589793,), "0x1.250d048e7a1bdp+0"),
    ("log_", (1e-300,), "-0x1.5963447f87fb5p+9"),
    ("log_", (5e-324,), "-0x1.74385446d71c3p+9"),
    ("log_", (1.7976931348623157e308,), "0x1.62e42fefa39efp+9"),
    ("log_", (95000.0,), "0x1.6ec5b0d46de42p+3"),
    ("pow_", (2.0, 10.0), "0x1.0000000000000p+10"),
    ("pow_", (10.0, -0.5), "0x1.43d136248490fp-2"),
    ("pow_", (0.3, 0.35), "0x1.4ff0c66d0feb2p-1"),
    ("pow_", (4.285714285714286, 0.3), "0x1.8c236d6170fffp+0"),
    ("pow_", (1.0000000001, 1000000000.0), "0x1.1aec7b5ce0287p+0"),
    ("pow_", (0.5, 1074.0), "0x0.0000000000001p-1022"),
    ("pow_", (1e-05, 60.3), "0x1.5af9135c60e54p-1002"),
    ("pow_", (3.0, 0.3333333333333333), "0x1.7137449123ef6p+0"),
    ("pow_", (9.999999, -12.5), "0x1.640a8fd77c14bp-42"),
    ("pow_", (1.5, 1700.0), "0x1.5a63b3b6d05e3p+994"),
    ("erf_", (1e-10,), "0x1.f044332d68160p-34"),
    ("erf_", (0.1,), "0x1.cca5ea24fb334p-4"),
    ("erf_", (-0.25,), "-0x1.1af54e232d608p-2"),
    ("erf_", (0.46875,), "0x1.f86faa9428f9cp-2"),
    ("erf_", (0.5,), "0x1.0a7ef5c18edd2p-1"),
    ("erf_", (1.0,), "0x1.af767a741088ap-1"),
    ("erf_", (-2.2,), "-0x1.ff0bd54025381p-1"),
    ("erf_", (3.9,), "0x1.fffffed523094p-1"),
    ("erf_", (5.9,), "0x1.fffffffffffffp-1"),
    ("erfc_", (0.1,), "0x1.c66b42bb6099ap-1"),
    ("erfc_", (-0.3,), "0x1.5420e22077a84p+0"),
    ("erfc_", (0.46875,), "0x1.03c82ab5eb832p-1"),
    ("erfc_", (0.5,), "0x1.eb02147ce245cp-2"),
    ("erfc_", (1.0,), "0x1.4226162fbddd6p-3"),
    ("erfc_", (2.5,), "0x1.aab859b20ac9fp-12"),
    ("erfc_", (-2.5,), "0x1.ffe5547a64df5p+0"),
    ("erfc_", (4.0,), "0x1.08ddd13bd35e7p-26"),
    ("erfc_", (4.1,), "0x1.cc6c220bdae5ap-28"),
    ("erfc_", (10.0,), "0x1.7d8a7f2a8a2cfp-149"),
    ("erfc_", (26.5,), "0x1.3df6725a60cf5p-1019"),
    ("erfc_", (27.2,), "0x0.0000000000002p-1022"),
    ("norm_pdf", (0.0,), "0x1.9884533d43651p-2"),
    ("norm_pdf", (0.5,), "0x1.6883d022086adp-2"),
    ("norm_pdf", (-1.0,), "0x1.ef8e58e331738p-3"),
    ("norm_pdf", (3.3,), "0x1.c38fa5088a899p-10"),
    ("norm_pdf", (-12.25,), "0x1.582f5030c5829p-110"),
    ("norm_pdf", (37.6,), "0x1.d149d50b5f485p-1022"),
    ("norm_pdf", (38.5,), "0x0.000000000000bp-1022"),
    ("norm_cdf", (0.0,), "0x1.0000000000000p-1"),
    ("norm_cdf", (1e-09,), "0x1.000000036d489p-1"),
    ("norm_cdf", (-0.25,), "0x1.9aecba9d22528p-2"),
    ("norm_cdf", (0.66,), "0x1.7da18a819c46fp-1"),
    ("norm_cdf", (-0.67,), "0x1.01769386d0a98p-2"),
    ("norm_cdf", (1.0,), "0x1.aec4bd120d37ep-1"),
    ("norm_cdf", (-1.0,), "0x1.44ed0bb7cb20ap-3"),
    ("norm_cdf", (-1.96,), "0x1.9990c58859311p-6"),
    ("norm_cdf", (2.33,), "0x1.faedfbecafe8cp-1"),
    ("norm_cdf", (-5.66,), "0x1.040e8c19f52d3p-27"),
    ("norm_cdf", (-8.0,), "0x1.669d2c90d55cep-51"),
    ("norm_cdf", (-20.0,), "0x1.c0bd0f1880783p-295"),
    ("norm_cdf", (-37.5,), "0x1.08eda98086fd1p-1021"),
    ("norm_cdf", (-38.4,), "0x0.000000000000dp-1022"),
    ("mills_ratio", (0.0,), "0x1.40d931ff62706p+0"),
    ("mills_ratio", (0.3,), "0x1.00786a792bc34p+0"),
    ("mills_ratio", (0.7,), "0x1.8cbee2f4c2132p-1"),
    ("mills_ratio", (2.0,), "0x1.af7b6a4d54e8dp-2"),
    ("mills_ratio", (5.6,), "0x1.6305796710cbbp-3"),
    ("mills_ratio", (5.7,), "0x1.5d2158d9d6cfep-3"),
    ("mills_ratio", (40.0,), "0x1.99582fbe4fb41p-6"),
    ("mills_ratio", (60.0,), "0x1.10fdaa2d2e0b5p-6"),
)

# (forward, strike, sigma, t_years, is_call, discount), then the price and the delta.
OPTIONS: Final[tuple[tuple[tuple[float, float, float, float, bool, float], str, str], ...]] = (
    ((100000.0, 100000.0, 0.5, 0.25, True, 1.0), "0x1.36dd28e3f2300p+13", "0x1.197749e2034adp-1"),
    ((100000.0, 100000.0, 0.5, 0.25, False, 1.0), "0x1.36dd28e3f2300p+13", "-0x1.cd116c3bf96a7p-2"),
    ((95000.0, 120000.0, 0.63, 0.0821917808219178, True, 0.995), "0x1.b9ae34cf23e3ep+9", "0x1.d27eef086a97ep-4"),
    ((95000.0, 120000.0, 0.63, 0.0821917808219178, False, 0.995), "0x1.927971a6791f2p+14", "-0x1.c320c5f5fcea7p-1"),
    ((3800.5, 2000.0, 1.2, 0.005, False, 1.0), "0x1.4439aa31a05d4p-41", "-0x1.f450464384e1ep-47"),
    ((3800.5, 3800.0, 0.9, 1e-05, True, 1.0), "0x1.2471d9a9d17cbp+2", "0x1.09bacb475e201p-1"),
    ((9350.14, 8875.0, 1.1607, 0.000263, True, 1.0), "0x1.db48b19df2e0cp+8", "0x1.fe9bd1882000ap-1"),
    ((180.0, 1000.0, 2.5, 1.5, True, 0.9), "0x1.dace3c1b3e7f3p+6", "0x1.8065c51755924p-1"),
    ((1.0, 1.0001, 0.01, 0.1, False, 1.0), "0x1.58003ebff6709p-10", "-0x1.062290300b0f9p-1"),
)


def differences() -> list[str]:
    """One line for each pinned result that this process computes otherwise."""
    found = []
    for name, arguments, pinned in MATHS:
        function: Callable[..., float] = getattr(maths, name)
        found += _difference(name, arguments, pinned, function(*arguments))
    for option, price, delta in OPTIONS:
        found += _difference("black76_price", option, price, pricing.black76_price(*option))
        found += _difference("black76_delta", option, delta, pricing.black76_delta(*option))
    return found


def _difference(name: str, arguments: tuple[float, ...], pinned: str, got: float) -> list[str]:
    result = float(got).hex()
    return [] if result == pinned else [f"{name}{arguments}: {result}, pinned {pinned}"]


def main() -> int:
    found = differences()
    print(*found, f"{len(MATHS) + 2 * len(OPTIONS)} pinned results, {len(found)} differ", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
