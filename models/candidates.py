"""Ways to predict an operation's seconds, and their JSON forms. A model is fitted on seconds of whole samples.

| candidate | seconds |
|---|---|
| analytic | sum of features times coefficients >= 0, least squares of relative errors |
| kriging | analytic times exp of a Gaussian process's mean over what it leaves: near settings err alike |
| linear | exp of a linear function of the description and the logarithms of the analytic features (ridge) |
| forest | analytic times exp of a random forest of the description |
| boosted | analytic times exp of gradient-boosted trees (XGBoost) of the description |

The last four are *learned*. What they see is one call; seconds are those of a call times calls.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.records import record
from autoprivacy.models.features import Handled, description, features, key_of, matrix, place, word_columns

if TYPE_CHECKING:
    from sklearn.tree import DecisionTreeRegressor

Floats: TypeAlias = NDArray[np.float64]
SEED: Final = 2020
TREES: Final = 30
LEAST_SAMPLES: Final = 12
"""Below this a learned model is not tried."""

PULL: Final = 0.1
"""How much a prior of coefficients counts, as a share of one sample."""

LENGTHS: Final = (1.0, 2.0, 4.0)
"""Octaves of ring degree, limbs or sizes over which errors are alike."""

NOISES: Final = (0.01, 0.1, 1.0)
"""How much of a deviation is a sample's own, as a share of what is common."""


@record
class Analytic:
    """Seconds per feature (`features.names_of`)."""

    kind: Literal["analytic"]
    coefficients: tuple[float, ...]

    def seconds(self, handled: Handled) -> float:
        """Predicted seconds of all calls."""
        return float(features(handled) @ np.array(self.coefficients))


@record
class LogLinear:
    """log seconds of a call = intercept + weights @ (description, log features of a call)."""

    kind: Literal["linear"]
    intercept: float
    weights: tuple[float, ...]

    def seconds(self, handled: Handled) -> float:
        """Predicted seconds of all calls."""
        calls = max(1, handled.calls)
        return calls * float(np.exp(self.intercept + _logs(handled) @ np.array(self.weights)))


@record
class Tree:
    """A regression tree: `feature` is -1 at a leaf, whose value is `value`; else `low` where x <= `threshold`."""

    feature: tuple[int, ...]
    threshold: tuple[float, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    value: tuple[float, ...]

    def __call__(self, x: Floats) -> float:
        """The value for one description."""
        node = 0
        while self.feature[node] >= 0:
            node = self.low[node] if x[self.feature[node]] <= self.threshold[node] else self.high[node]
        return self.value[node]


@record
class Forest:
    """An analytic model times exp of the sum of trees times `weight`."""

    kind: Literal["forest", "boosted"]
    base: Analytic
    trees: tuple[Tree, ...]
    weight: float

    def seconds(self, handled: Handled) -> float:
        """Predicted seconds of all calls."""
        x = description(handled).astype(np.float32).astype(float)  # as their libraries see it
        return self.base.seconds(handled) * float(np.exp(self.weight * sum(tree(x) for tree in self.trees)))


@record
class Kriging:
    """An analytic model times exp of `weights` @ exp(-(distance / `length`)^2 / 2) to `places` (`features.place`)."""

    kind: Literal["kriging"]
    base: Analytic
    places: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    length: float

    def seconds(self, handled: Handled) -> float:
        """Predicted seconds of all calls."""
        near = _nearness(place(handled)[None, :], np.array(self.places), self.length)[0]
        return self.base.seconds(handled) * float(np.exp(near @ np.array(self.weights)))


Fitted: TypeAlias = Analytic | LogLinear | Forest | Kriging
Fit: TypeAlias = Callable[[Sequence[Handled], Sequence[float]], Fitted]


def non_negative(rows: Floats, target: Floats, prior: Floats | None = None) -> Floats:
    """Coefficients (columns,), at least 0, for which rows @ coefficients is relatively closest to `target`.

    They are drawn towards a `prior` where that is all that is known of them.
    """
    from scipy.optimize import nnls

    scale = rows.max(axis=0)
    scale[scale == 0] = 1.0
    relative, wanted = rows / scale / target[:, None], np.ones(len(target))
    if prior is not None:
        weight = PULL * np.diag(np.maximum(relative.mean(axis=0), 1e-12))
        relative, wanted = np.vstack([relative, weight]), np.concatenate([wanted, weight @ (prior * scale)])
    coefficients, _ = nnls(relative, wanted)
    found: Floats = coefficients / scale
    return found


def _by_word(rows: Floats, target: Floats, columns: tuple[slice, slice]) -> Floats:
    """Coefficients of either word; those of the one with fewer samples start from the other's, times one factor."""
    seen = [rows[:, part].any(axis=1) for part in columns]
    more = int(seen[1].sum() >= seen[0].sum())
    found = np.zeros(rows.shape[1])
    well = non_negative(rows[seen[more]][:, columns[more]], target[seen[more]])
    found[columns[more]] = found[columns[1 - more]] = well
    fewer = seen[1 - more]
    if fewer.any():
        own = rows[fewer][:, columns[1 - more]]
        factor = float(np.exp(np.mean(np.log(target[fewer] / (own @ well)))))
        found[columns[1 - more]] = non_negative(own, target[fewer], factor * well)
    return found


def fit_analytic(samples: Sequence[Handled], seconds: Sequence[float]) -> Analytic:
    """Non-negative coefficients with the least squared relative error.

    >>> from autoprivacy.hwprofiles.machine_profile import WorkDone
    >>> at = lambda items: WorkDone("ot_send", 0, 0, 1, items)
    >>> [round(c, 9) for c in fit_analytic([at(10), at(20)], [3.0, 5.0]).coefficients]
    [1.0, 0.0, 0.0, 0.2, 0.0, 0.0]
    """
    rows, target = matrix(samples), np.array(seconds)
    columns = word_columns(key_of(samples[0]))
    found = non_negative(rows, target) if columns is None else _by_word(rows, target, columns)
    return Analytic("analytic", tuple(found.tolist()))


def fit_linear(samples: Sequence[Handled], seconds: Sequence[float]) -> LogLinear:
    """Ridge regression of log seconds."""
    from sklearn.linear_model import RidgeCV

    rows = np.array([_logs(sample) for sample in samples])
    found = RidgeCV(alphas=np.logspace(-4, 2, 7)).fit(rows, np.log(_per_call(samples, seconds)))
    return LogLinear("linear", float(found.intercept_), tuple(float(weight) for weight in found.coef_))


def fit_forest(samples: Sequence[Handled], seconds: Sequence[float]) -> Forest:
    """A random forest of what the analytic model leaves."""
    from sklearn.ensemble import RandomForestRegressor

    base, rows, left = _residual(samples, seconds)
    found = RandomForestRegressor(TREES, min_samples_leaf=2, random_state=SEED, n_jobs=1).fit(rows, left)
    return Forest("forest", base, tuple(_tree(each) for each in found.estimators_), 1 / TREES)


def fit_boosted(samples: Sequence[Handled], seconds: Sequence[float]) -> Forest:
    """XGBoost's trees of what the analytic model leaves."""
    import xgboost

    base, rows, left = _residual(samples, seconds)
    parameters = {"max_depth": 3, "eta": 0.2, "lambda": 1.0, "base_score": 0.0, "seed": SEED, "nthread": 1}
    found = xgboost.train(parameters, xgboost.DMatrix(rows, left), num_boost_round=TREES).save_raw("json")
    trees = json.loads(found)["learner"]["gradient_booster"]["model"]["trees"]
    return Forest("boosted", base, tuple(_boosted_tree(tree) for tree in trees), 1.0)


def fit_kriging(samples: Sequence[Handled], seconds: Sequence[float]) -> Kriging:
    """A Gaussian process of what the analytic model leaves; its length and noise err least one left out."""
    base = fit_analytic(samples, seconds)
    left = np.log(np.array(seconds) / np.array([base.seconds(sample) for sample in samples]))
    places = np.array([place(sample) for sample in samples])
    best = inf
    for length in LENGTHS:
        near = _nearness(places, places, length)
        for noise in NOISES:
            inverse = np.linalg.inv(near + noise * np.eye(len(left)))
            weights = inverse @ left
            error = float(np.mean(np.abs(weights / np.diag(inverse))))  # of each, left out [Sundararajan, Keerthi 2001]
            if error < best:
                best, found = error, (weights, length)
    weights, length = found
    return Kriging("kriging", base, tuple(map(tuple, places.tolist())), tuple(weights.tolist()), length)


CANDIDATES: Final[dict[str, Fit]] = {
    "analytic": fit_analytic,
    "kriging": fit_kriging,
    "linear": fit_linear,
    "forest": fit_forest,
    "boosted": fit_boosted,
}
"""Every way that is tried, the simplest first."""


def _nearness(one: Floats, other: Floats, length: float) -> Floats:
    distance = ((one[:, None, :] - other[None, :, :]) ** 2).sum(axis=2)
    found: Floats = np.exp(-distance / (2 * length**2))
    return found


def _per_call(samples: Sequence[Handled], seconds: Sequence[float]) -> Floats:
    found: Floats = np.array(seconds) / np.array([max(1, sample.calls) for sample in samples])
    return found


def _logs(handled: Handled) -> Floats:
    per_call = np.log1p(features(handled) / max(1, handled.calls))
    return np.concatenate([description(handled), np.asarray(per_call, dtype=np.float64)])


def _residual(samples: Sequence[Handled], seconds: Sequence[float]) -> tuple[Analytic, Floats, Floats]:
    base = fit_analytic(samples, seconds)
    predicted = np.array([base.seconds(sample) for sample in samples])
    return base, np.array([description(sample) for sample in samples]), np.log(np.array(seconds) / predicted)


def _tree(fitted: "DecisionTreeRegressor") -> Tree:
    tree = fitted.tree_
    return Tree(
        feature=tuple(int(f) if low >= 0 else -1 for f, low in zip(tree.feature, tree.children_left, strict=True)),
        threshold=tuple(tree.threshold.tolist()),
        low=tuple(tree.children_left.tolist()),
        high=tuple(tree.children_right.tolist()),
        value=tuple(tree.value.ravel().tolist()),
    )


def _boosted_tree(tree: Mapping[str, Sequence[float]]) -> Tree:
    """One tree of XGBoost's own form, which sends x < split to the left; ours sends x <= threshold.

    Its `split_conditions` are values where nothing is left to split.
    """
    leaf = [child < 0 for child in tree["left_children"]]
    splits = np.array(tree["split_conditions"], dtype=np.float32)
    thresholds = np.nextafter(splits, np.float32(-np.inf)).tolist()
    return Tree(
        feature=tuple(-1 if end else int(f) for end, f in zip(leaf, tree["split_indices"], strict=True)),
        threshold=tuple(0.0 if end else each for end, each in zip(leaf, thresholds, strict=True)),
        low=tuple(int(child) for child in tree["left_children"]),
        high=tuple(int(child) for child in tree["right_children"]),
        value=tuple(each if end else 0.0 for end, each in zip(leaf, splits.tolist(), strict=True)),
    )
