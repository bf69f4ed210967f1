"""How sure counts make us.

>>> round(binomial_upper(0, 59), 3)  # the rule of three, nearly: 3 / 59 = 0.051
0.05
"""

from typing import Final

CONFIDENCE: Final = 0.95


def binomial_upper(hits: int, trials: int) -> float:
    """The exact upper bound (Clopper-Pearson) of a probability with `hits` in `trials`, one-sided, at 95 %."""
    from scipy.stats import beta

    return 1.0 if hits == trials else float(beta.ppf(CONFIDENCE, hits + 1, trials - hits))
