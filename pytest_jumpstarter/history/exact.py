"""
Exact probabilities, without SciPy: `math.comb` computes them with whole numbers.

Source: R. A. Fisher, The Design of Experiments (1935), for `fisher`
"""

from __future__ import annotations

from math import comb


def fisher(hits: int, trials: int, other_hits: int, other_trials: int) -> float:
    """
    Return the probability of at least so many hits here, if here and elsewhere are alike.

    This is Fisher's exact test, one-sided: the number of all hits is fixed, and chance spreads them over all trials.
    """
    if not trials or not other_trials or hits * other_trials <= other_hits * trials:
        return 1.0
    total, all_hits = trials + other_trials, hits + other_hits
    ways = sum(comb(all_hits, n) * comb(total - all_hits, trials - n) for n in range(hits, min(trials, all_hits) + 1))
    return ways / comb(total, trials)


def binomial(hits: int, trials: int, rate: float) -> float:
    """Return the probability of at least so many hits in independent trials that each hit with `rate`."""
    if hits <= trials * rate:
        return 1.0
    below = sum(comb(trials, n) * rate**n * (1 - rate) ** (trials - n) for n in range(hits))
    above = sum(comb(trials, n) * rate**n * (1 - rate) ** (trials - n) for n in range(hits, trials + 1))
    return above if above < below else 1 - below
