"""Growth over the years: exponential fits of published points with confidence intervals, and projections that say what they are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ridgeline.errors import InputError
from ridgeline.quantities import Fraction


class Point(NamedTuple):
    """One point of a trend: when, how much, and what it is."""

    year: float
    value: float
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """An exponential through points: its growth in two years with a confidence interval, and what is needed to project it."""

    name: str
    rate: float  # factor in two years
    low: float
    high: float
    confidence: Fraction
    points: int
    first: float
    last: float
    slope: float  # decades a year
    intercept: float  # log10 at the mean year
    mean_year: float
    spread: float  # sum of squared distances of the years from their mean
    residual: float  # standard deviation of the points around the line, decades

    def at(self, year: float) -> float:
        """Return the value of the fitted line in a year."""
        return 10.0 ** (self.intercept + self.slope * (year - self.mean_year))

    def over(self, years: float) -> float:
        """Return the growth over a number of years."""
        return 10.0 ** (self.slope * years)


class Projection(NamedTuple):
    """A value of a fitted line outside its points, with the interval in which a new point is expected: an extrapolation."""

    year: float
    value: float
    low: float
    high: float


def fit(name: str, points: Sequence[Point], *, confidence: Fraction = 0.95) -> Fit:
    """Fit an exponential by least squares of the logarithms, with the confidence interval of its rate.

        log₁₀ value = a + b · year,   rate = 10^(2b),   b ± t(n − 2) · s / √Σ(year − mean)²   [draper1998, section 1.4]

    Valid where points scatter independently and alike around the line. Those of the memory-wall figures are records and products
    that somebody chose, so that the interval says how well the line is known, not how well it was chosen.

    >>> found = fit("doubling", [Point(2000, 1.0), Point(2002, 2.0), Point(2004, 4.0)])
    >>> round(found.rate, 6), round(found.high, 6)
    (2.0, 2.0)
    """
    if len(points) < 3:
        raise InputError(f"trend {name!r} has {len(points)} points: a fit with an interval needs at least 3")
    if any(one.value <= 0.0 for one in points):
        raise InputError(f"trend {name!r}: a value is not positive, and growth is fitted to logarithms")
    if not 0.0 < confidence < 1.0:
        raise InputError(f"confidence {confidence:g}: a number between 0 and 1 is wanted")
    years = np.array([one.year for one in points], dtype=np.float64)
    logs = np.log10(np.array([one.value for one in points], dtype=np.float64))
    centred = years - years.mean()
    spread = float(centred @ centred)
    if spread == 0.0:
        raise InputError(f"trend {name!r}: all its points are of one year")
    slope = float(centred @ logs) / spread
    errors = logs - logs.mean() - slope * centred
    residual = math.sqrt(float(errors @ errors) / (len(points) - 2))
    half = student_quantile(0.5 + confidence / 2.0, len(points) - 2) * residual / math.sqrt(spread)
    return Fit(
        name=name,
        rate=10.0 ** (2.0 * slope),
        low=10.0 ** (2.0 * (slope - half)),
        high=10.0 ** (2.0 * (slope + half)),
        confidence=confidence,
        points=len(points),
        first=float(years.min()),
        last=float(years.max()),
        slope=slope,
        intercept=float(logs.mean()),
        mean_year=float(years.mean()),
        spread=spread,
        residual=residual,
    )


def project(found: Fit, year: float) -> Projection:
    """Return a fitted line's value in a year, with the interval of a new point there.

        log₁₀ value ± t(n − 2) · s · √(1 + 1/n + (year − mean)² / Σ(year − mean)²)   [draper1998, section 3.1]

    Beyond the points it is an extrapolation: nothing says that growth goes on.
    """
    away = year - found.mean_year
    wide = math.sqrt(1.0 + 1.0 / found.points + away * away / found.spread)
    half = student_quantile(0.5 + found.confidence / 2.0, found.points - 2) * found.residual * wide
    middle = found.intercept + found.slope * away
    return Projection(year, 10.0**middle, 10.0 ** (middle - half), 10.0 ** (middle + half))


def student_probability(value: float, freedom: int) -> Fraction:
    """Return the probability that Student's t is below a value: the finite sums for whole degrees of freedom.

    P(|t| < v) = A(v | ν)   [abramowitz1964, 26.7.3 and 26.7.4]

    >>> round(student_probability(1.0, 1), 6)  # ½ + arctan(1) / π
    0.75
    """
    angle = math.atan2(abs(value), math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = freedom % 2 == 1
    term, total, index = (cosine if odd else 1.0), 0.0, (2 if odd else 1)
    while index <= freedom - 1:
        total += term
        term *= cosine * cosine * index / (index + 1)
        index += 2
    inside = 2.0 / math.pi * (angle + sine * total) if odd else sine * total
    return 0.5 + math.copysign(0.5 * inside, value)


def student_quantile(probability: Fraction, freedom: int) -> float:
    """Return the value below which Student's t lies with a probability, by bisection.

    >>> round(student_quantile(0.975, 10), 3)  # as the tables have it
    2.228
    """
    low, high = 0.0, 1.0
    target = max(probability, 1.0 - probability)
    while student_probability(high, freedom) < target and high < 1e9:
        high *= 2.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        if student_probability(middle, freedom) < target:
            low = middle
        else:
            high = middle
    return math.copysign(0.5 * (low + high), probability - 0.5)
