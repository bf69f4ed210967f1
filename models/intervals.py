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
