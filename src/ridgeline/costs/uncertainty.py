"""How far off a prediction may be: half-widths of the logarithm of measured over predicted time, combined over a step."""

from ridgeline.arrays import maximum
from ridgeline.quantities import Count, Fraction, Seconds

CALL_TIME: Seconds = 30e-6  # of a call beside its kernel, below which kernels are known less well: launch, events, tails


def half_width(*, time: Seconds, steady: Fraction, short: Fraction, call: Seconds) -> Fraction:
    """Half-width of the interval of one kernel: a share of its time, and more of what launches and tails take of it.

        steady + short · call / (call + time)

    An absolute error beside a relative one: of six forms the one that fits residuals of chips left out best.
    Validity: 1 µs to 1 s. Neglects every other cause by which kernels of one kind differ.

    >>> half_width(time=90e-6, steady=0.1, short=0.2, call=30e-6)  # a quarter of 0.2 beside 0.1
    0.15000000000000002
    """
    return steady + short * (call / (call + time))


def beyond_range(*, time: Seconds, least: Seconds, most: Seconds, exponent: Fraction) -> Fraction:
    """Factor by which a half-width grows where a time lies outside the range that was seen.

        max(1, time / most, least / time) ^ exponent

    A time of nothing counts as a millionth of the least that was seen.

    >>> beyond_range(time=8e-3, least=1e-6, most=2e-3, exponent=0.5)  # four times beyond
    2.0
    """
    ratio = maximum(time / most, least / maximum(time, 1e-6 * least))
    return maximum(ratio, 0.0 * ratio + 1.0) ** exponent


def step_half_width(*, squares: Fraction, total: Fraction, correlation: Fraction, level: Fraction) -> Fraction:
    """Half-width of a sum of times whose errors go together by one correlation, beside an error of the whole.

        √((1 − ρ) · Σ (wᵢ·hᵢ)² + ρ · (Σ wᵢ·hᵢ)² + level²)   [jcgm2008gum, Eq. (16)]

    with wᵢ the share of kernel i in the step's time: `squares` and `total` are the two sums. Validity: half-widths of one coverage,
    errors near log-normal. Neglects that some pairs of kernels go together more than others.

    >>> step_half_width(squares=0.02, total=0.2, correlation=0.5, level=0.1)  # √(0.01 + 0.02 + 0.01)
    0.2
    """
    return ((1.0 - correlation) * squares + correlation * total * total + level * level) ** 0.5


def ratio_half_width(*, first: Fraction, second: Fraction, correlation: Fraction) -> Fraction:
    """Half-width of the ratio of two times whose errors are shared in part: the same kernels of the same model on two chips.

        √(a² + b² − 2·ρ·a·b)   [jcgm2008gum, Eq. (16)] with the sensitivities 1 and −1

    >>> ratio_half_width(first=0.3, second=0.4, correlation=0.0)
    0.5
    >>> round(ratio_half_width(first=0.3, second=0.3, correlation=0.5), 3)  # narrower than 0.424, were nothing shared
    0.3
    """
    square = first * first + second * second - 2.0 * correlation * first * second
    return maximum(square, 0.0 * square) ** 0.5


def pooled_factor(*, chips: Count, between: Fraction) -> Fraction:
    """Factor by which a half-width from few chips grows, since the next chip is none of them.

        √(1 + between / chips)   the variance of a mean of so many chips beside that of one more [jcgm2008gum, Eq. (5)]

    with `between` the share of the variance that lies between chips; what lies within a chip is known from its many rows.

    >>> pooled_factor(chips=1.0, between=0.44)
    1.2
    """
    return (1.0 + between / chips) ** 0.5
