"""Queues whose answer is known: what the simulator must give where a replica serves one request at a time."""

import numpy as np

from ridgeline.quantities import Count, Fraction, PerSecond, Seconds
from ridgeline.serving.arrivals import Numbers


def utilisation(*, rate: PerSecond, service: Seconds) -> Fraction:
    """Return the share of time that a single server is busy: ρ = λ·E[S].

    >>> utilisation(rate=2.0, service=0.25)
    0.5
    """
    return rate * service


def mean_wait(*, rate: PerSecond, service: Seconds, variation: Fraction = 0.0) -> Seconds:
    """Return the mean time in the queue of an M/G/1 system, the Pollaczek–Khinchine formula.

        W = ρ · E[S] · (1 + c²) / (2 · (1 − ρ)),   ρ = λ·E[S] < 1

    Poisson arrivals, one server, first come first served; c is the coefficient of variation of the service time: 0 is M/D/1, 1 is
    M/M/1. [kleinrock1975queueing, §5.6]

    >>> mean_wait(rate=0.5, service=1.0)  # M/D/1: 0.5 / (2 · 0.5)
    0.5
    >>> mean_wait(rate=0.5, service=1.0, variation=1.0)  # M/M/1: ρ / (1 − ρ)
    1.0
    """
    load = utilisation(rate=rate, service=service)
    return load * service * (1.0 + variation**2) / (2.0 * (1.0 - load))


def waits(arrival: Numbers, service: Numbers) -> Numbers:
    """Return every request's time in the queue of one server, by Lindley's recursion.

        Wₙ₊₁ = max(0, Wₙ + Sₙ − (Aₙ₊₁ − Aₙ))  =  Uₙ₊₁ − min(U₁ … Uₙ₊₁),   U the sum of Sₙ − (Aₙ₊₁ − Aₙ)

    [lindley1952theory]

    >>> waits(np.array([0.0, 1.0, 5.0]), np.array([3.0, 1.0, 1.0])).tolist()
    [0.0, 2.0, 0.0]
    """
    walk = np.concatenate([[0.0], np.cumsum(service[:-1] - np.diff(arrival))])
    return walk - np.minimum.accumulate(walk)


def requests_in_system(*, rate: PerSecond, time: Seconds) -> Count:
    """Return the mean number of requests in a system in which each spends so long.

        L = λ·W   [little1961]

    >>> requests_in_system(rate=4.0, time=0.5)
    2.0
    """
    return rate * time
