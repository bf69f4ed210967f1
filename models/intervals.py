"""Half-widths of relative intervals, from errors of predictions that had not seen what they predict."""

from collections.abc import Sequence
from math import ceil, inf
from typing import Final

import numpy as np

from autoprivacy.common.records import record

MORE_S: Final = (0.0, 0.25e-3, 0.5e-3, 1e-3, 2e-3, 4e-3, 8e-3)
"""At how many seconds an interval may be twice as wide as that of something long."""

LEAST_S: Final = 1e-5
"""What takes less is as uncertain as if it took so long."""

NEAR: Final = 0.7
"""Octaves over which settings err alike [features.place].

Of 0.5, 0.7, 1, 1.4, 2 and 4, and of USUAL_ERRORS from 1, 2, 3, 4 and 8, these two make errors on sets left out
likeliest in the shipped profiles of two machines taken together, were they Laplace's of the spread that the other sets
give (mean log-likelihoods of an error, added: 8.220; 8.206 with 1 octave and 2 errors).
"""

USUAL_ERRORS: Final = 1.0
"""How many errors nearby what an operation usually errs counts as."""

COMMON_ERRORS: Final = 4.0
"""How many errors of its own what operations err in common counts as, for each operation."""

LEAST_SPREAD: Final = 1e-9


def conformal_quantile(errors: Sequence[float], level: float) -> float:
    """The absolute error that one more exchangeable error exceeds with probability at most 1 - level.

    With fewer than level / (1 - level) errors the greatest one stands in, doubled.

    >>> conformal_quantile([0.01 * k for k in range(1, 20)], 0.95)
    0.19
    >>> conformal_quantile([0.1, -0.2], 0.95)
    0.4
    """
    ordered = sorted(abs(error) for error in errors)
    if not ordered:
        return 1.0
    rank = ceil(round((len(ordered) + 1) * level, 9))
    return float(ordered[rank - 1] if rank <= len(ordered) else 2 * ordered[-1])


@record
class Spread:
    """How far predictions err relative to what they predict: `share`, and more of what takes little time.

    >>> Spread(0.02, more_s=1e-3).half_width(1e-3)
    0.04
    """

    share: float
    more_s: float

    def half_width(self, seconds: float) -> float:
        """That of the interval of something predicted to take so long."""
        return self.share * (1 + self.more_s / max(seconds, LEAST_S))


def fit_spread(errors: Sequence[float], seconds: Sequence[float], level: float) -> Spread:
    """The spread whose intervals hold `level` of errors of predictions of so many seconds.

    Of MORE_S it takes what makes these errors likeliest, were they Laplace's, of that spread. Each over what is typical
    at its length, errors are alike; their conformal quantile is the share.
    """
    sizes, found, least = np.abs(errors), MORE_S[0], inf
    for more_s in MORE_S if np.any(sizes) else ():
        typical = 1 + more_s / np.asarray(seconds)
        unlikely = len(sizes) * np.log(np.mean(sizes / typical)) + np.log(typical).sum()
        if unlikely < least:
            found, least = more_s, float(unlikely)
    scores = [error / (1 + found / each) for error, each in zip(errors, seconds, strict=True)]
    return Spread(conformal_quantile(scores, level), found)


@record
class Erred:
    """How far a prediction erred that had not seen its `group`, and where in the space of settings that was."""

    group: int
    place: tuple[float, ...]
    error: float


def usual_spread(seen: Sequence[Erred], common: float) -> float:
    """What one operation usually errs; `common` is what operations do."""
    sizes = [abs(each.error) for each in seen]
    return max(LEAST_SPREAD, (COMMON_ERRORS * common + sum(sizes)) / (COMMON_ERRORS + len(sizes)))


def spread_at(place: Sequence[float], seen: Sequence[Erred], common: float) -> float:
    """What one operation errs near a place: as what was seen near it, drawn towards what it usually does.

    >>> far, near = Erred(0, (9.0,), 0.1), Erred(1, (0.0,), -0.01)
    >>> spread_at((0.0,), [far, near], 0.03) < usual_spread([far, near], 0.03) < spread_at((9.0,), [far, near], 0.03)
    True
    """
    usual = usual_spread(seen, common)
    if not seen:
        return usual
    away = np.array([each.place for each in seen]) - np.asarray(place)
    nearness = np.exp(-(away**2).sum(axis=1) / (2 * NEAR**2))
    sizes = np.abs([each.error for each in seen])
    return max(LEAST_SPREAD, float((USUAL_ERRORS * usual + nearness @ sizes) / (USUAL_ERRORS + nearness.sum())))


def scores(seen: Sequence[Erred], common: float) -> list[float]:
    """Errors of one operation over its spread where they were made, as the other groups give it."""
    return [
        each.error / spread_at(each.place, [other for other in seen if other.group != each.group], common)
        for each in seen
    ]
