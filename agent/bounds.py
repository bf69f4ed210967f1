"""Upper confidence bound of a mean of paired differences, for any sample size [Betting].

| symbol | meaning |
|---|---|
| D_i | what image i loses: 1 if it was right and no longer is, -1 the other way round, means over draws between |
| m | a candidate for the mean of D |
| K(m) | capital of a gambler who bets that the mean is below m: the product of 1 - l_i (D_i - m) |
| l_i | stake on image i, which only images before it decide |

If the mean is m, or more, K(m) is a supermartingale that starts at 1: it ends above 20 in at most 5 % of all samples
(Ville). So every m whose gambler ends above 20 is ruled out. Images gained are credited, for they make D negative; that
errors of one image are drawn several times only makes its D less noisy. Stakes follow the variance seen so far.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.confidence import CONFIDENCE

MOST_STAKE: Final = 0.9
"""Below 1 / (1 - m) for all m from `LEAST` on, so that capital stays positive."""

LEAST: Final = -0.1
"""No bound is below this."""

_FIRST_VARIANCE: Final = 0.05


def paired_upper(differences: NDArray[np.float64]) -> float:
    """The bound, with 95 % confidence, of the mean of `differences` (N,) in [-1, 1].

    >>> round(paired_upper(np.zeros(500)), 4)  # not one image changed
    0.0067
    """
    count = len(differences)
    if count == 0:
        return 1.0
    seen = np.concatenate([[0.0], np.cumsum(differences**2)[:-1]]) + _FIRST_VARIANCE
    variance = seen / np.arange(1, count + 1)
    goal = -np.log(1 - CONFIDENCE)
    stakes = np.minimum(MOST_STAKE, np.sqrt(2 * goal / (variance * count)))

    def ruled_out(mean: float) -> bool:
        return bool(np.log1p(-stakes * (differences - mean)).sum() >= goal)

    low, high = LEAST, 1.0
    if ruled_out(low):
        return low
    if not ruled_out(high):
        return 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if ruled_out(middle) else (middle, high)
    return high
