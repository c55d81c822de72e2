"""What machines and silicon cost: owning a machine a second, a good die, a package, a token.

Dollars are of the year that a price states. Taxes, insurance, staff, software and the seller's margin are nobody's here: a market
price contains them, the cost of a die does not.
"""

import math
from typing import NamedTuple

from ridgeline.arrays import exponential, exponential_minus_one, maximum, where
from ridgeline.quantities import (
    Bytes,
    Count,
    Dollars,
    DollarsPerByte,
    DollarsPerJoule,
    DollarsPerSecond,
    Fraction,
    Metres,
    PerSecond,
    PerSquareMetre,
    Seconds,
    SquareMetres,
    Watts,
)

# ---- owning a machine -------------------------------------------------------------------------------------------------------


def straight_line(*, price: Dollars, residual: Fraction, life: Seconds) -> DollarsPerSecond:
    """Write a purchase off in equal parts over its life.

        c = price · (1 − residual) / life   [barroso2018datacenter] §6.1

    Neglects interest.

    >>> round(straight_line(price=30_000.0, residual=0.0, life=5 * 8766 * 3600.0) * 3600, 3)  # dollars an hour: 30000 / 43830
    0.684
    """
    return price * (1.0 - residual) / life


def annuity(*, price: Dollars, residual: Fraction, life: Seconds, interest: PerSecond) -> DollarsPerSecond:
    """Pay a purchase back with interest in equal parts over its life; the residual value is had back at the end.

        c = r · price · (1 − residual · e^(−r·life)) / (1 − e^(−r·life))

    The present value of payments c at the rate r, compounded continuously, is the price less that of the residual: the limit of the
    yearly annuity [barroso2018datacenter] §6.1 for many short periods. Without interest it is `straight_line`.

    >>> year = 8766 * 3600.0
    >>> round(annuity(price=1000.0, residual=0.0, life=5 * year, interest=math.log(1.08) / year) * 5 * year)  # 5 · 77 / 0.3194
    1205
    """
    discounted = -exponential_minus_one(-(interest * life))  # 1 − e^(−r·life)
    some = discounted > 0.0
    paid = price * interest * (1.0 - residual * (1.0 - discounted)) / where(some, discounted, 1.0)
    return where(some, paid, price * (1.0 - residual) / life)


def electricity(*, power: Watts, pue: Fraction, price: DollarsPerJoule) -> DollarsPerSecond:
    """Pay for a machine's energy, and for the site's beside it (cooling, conversion).

        c = power · PUE · price   [barroso2018datacenter] §5.1, §6.2

    >>> round(electricity(power=700.0, pue=1.5, price=0.10 / 3.6e6) * 3600, 3)  # dollars an hour: 0.7 kW · 1.5 · 0.10
    0.105
    """
    return power * pue * price


def hosting(*, power: Watts, price: DollarsPerJoule) -> DollarsPerSecond:
    """Pay for the place of a machine by the power that it is built for, whether it is drawn or not; energy apart.

        c = power · price

    >>> round(hosting(power=1000.0, price=174.06 / 1000 / 2629800) * 2629800, 2)  # a month of a kilowatt
    174.06
    """
    return power * price


def use_cost(*, rate: DollarsPerSecond, time: Seconds, utilisation: Fraction) -> Dollars:
    """Charge a use of a machine with its time, and with the idle time that comes with it.

        c = rate · time / utilisation

    >>> use_cost(rate=0.001, time=10.0, utilisation=0.5)
    0.02
    """
    return rate * time / utilisation


# ---- input and output apart -------------------------------------------------------------------------------------------------


class StepShares(NamedTuple):
    """A step's time, charged to the prompts and to the sequences that decode."""

    prompt: Seconds
    decode: Seconds


def step_shares(*, time: Seconds, prompt: Seconds, decode: Seconds) -> StepShares:
    """Charge a step that computes prompts and decodes at once, to each in proportion to the time that it would take alone.

        t · tₚ / (tₚ + t_d)   and   t · t_d / (tₚ + t_d)

    What they save together is shared in the same proportion. A step of one kind is charged to it alone.

    >>> step_shares(time=9.0, prompt=4.0, decode=8.0)
    StepShares(prompt=3.0, decode=6.0)
    """
    alone = prompt + decode
    some = alone > 0.0 * alone
    each = time / where(some, alone, 1.0)
    return StepShares(prompt=each * prompt, decode=each * decode)


# ---- silicon ----------------------------------------------------------------------------------------------------------------


def gross_dies(*, diameter: Metres, area: SquareMetres, edge: Metres, scribe: Metres) -> Count:
    """Count the whole dies of a wafer: the area's worth less what the rim cuts.

        n = π·d² / 4A − π·d / √(2A)   [hennessy2017quantitative] §1.6

    d is the diameter less the unused rim on both sides, A a die with its scribe line, taken as a square. Neglects where the grid of
    dies lies, and test dies: against squares counted one by one it is 1 % below the mean placement at 100 mm², 5 % at 814 mm², and
    2 % and 12 % below the best. On 1.5 cm and 1 cm dies of a 30 cm wafer the book prints 270 and 640.

    >>> round(gross_dies(diameter=0.3, area=2.25e-4, edge=0.0, scribe=0.0))
    270
    >>> round(gross_dies(diameter=0.3, area=1e-4, edge=0.0, scribe=0.0))
    640
    """
    used = diameter - 2.0 * edge
    die = (area**0.5 + scribe) ** 2
    whole = math.pi * used**2 / (4.0 * die) - math.pi * used / (2.0 * die) ** 0.5
    return maximum(whole, 0.0 * whole)


def poisson_yield(*, area: SquareMetres, defects: PerSquareMetre) -> Fraction:
    """Share of dies without a defect where defects fall independently.

        Y = e^(−A·D)   [cunningham1990yield] eq. 2

    The most pessimistic of the models for large dies: real defects come in clusters.

    >>> round(poisson_yield(area=1e-4, defects=1000.0), 4)  # e^−0.1
    0.9048
    """
    return exponential(-(area * defects))


def murphy_yield(*, area: SquareMetres, defects: PerSquareMetre) -> Fraction:
    """Share of good dies where the density of defects itself spreads, as a triangle.

        Y = ((1 − e^(−A·D)) / (A·D))²   [murphy1964cost], [cunningham1990yield] eq. 5

    At 1.271 defects a cm² dies of 17.92 and 100 mm² yield 80 % and 32 % [cutress2019tsmc5nm].

    >>> round(murphy_yield(area=17.92e-6, defects=12710.0), 3), round(murphy_yield(area=1e-4, defects=12710.0), 3)
    (0.8, 0.32)
    """
    expected = area * defects
    some = expected > 0.0
    return where(some, (-exponential_minus_one(-expected) / where(some, expected, 1.0)) ** 2, 1.0)


def negative_binomial_yield(*, area: SquareMetres, defects: PerSquareMetre, clustering: Fraction) -> Fraction:
    """Share of good dies where defects cluster: densities spread as a gamma distribution.

        Y = (1 + A·D / α)^(−α)   [stapper1983yield], [cunningham1990yield] eq. 8

    α = 1 is Seeds' model; a large α is Poisson's.

    >>> negative_binomial_yield(area=1e-4, defects=10000.0, clustering=1.0)  # 1 / (1 + 1)
    0.5
    """
    return (1.0 + area * defects / clustering) ** (-clustering)


def bose_einstein_yield(*, area: SquareMetres, defects: PerSquareMetre, layers: Fraction) -> Fraction:
    """Share of good dies where each of so many critical layers has its own defects; `defects` are those of one layer.

        Y = 1 / (1 + A·D)ᴺ   [hennessy2017quantitative] §1.6

    >>> round(bose_einstein_yield(area=1e-4, defects=310.0, layers=13.5), 2)  # 1.031^−13.5
    0.66
    """
    return (1.0 + area * defects) ** (-layers)


def die_cost(*, wafer: Dollars, dies: Count, good: Fraction) -> Dollars:
    """Share a wafer's price among its good dies.

        c = wafer / (n · Y)   [hennessy2017quantitative] §1.6

    Neglects tests, masks and design. Dies that sell with parts switched off count as good where `good` counts them.

    >>> die_cost(wafer=10_000.0, dies=100.0, good=0.8)
    125.0
    """
    return wafer / (dies * good)


def memory_price(*, capacity: Bytes, price: DollarsPerByte) -> Dollars:
    """Pay for memory by its capacity.

        c = capacity · price

    >>> round(memory_price(capacity=80e9, price=15e-9))  # 80 GB at 15 dollars
    1200
    """
    return capacity * price


def package_cost(*, dies: Dollars, memory: Dollars, packaging: Dollars, assembled: Fraction) -> Dollars:
    """Put dies and memory on a carrier; a package that fails takes all of them with it.

        c = (dies + memory + packaging) / Y

    >>> package_cost(dies=400.0, memory=1200.0, packaging=700.0, assembled=0.92)
    2500.0
    """
    return (dies + memory + packaging) / assembled
