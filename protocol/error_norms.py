"""How much the products of a layer amplify noise: norms of packed weight polynomials, and what rotations add.

| symbol | meaning |
|---|---|
| w | one weight polynomial, coefficients modulo t, centred |
| abs(w)^2 | the sum of its squared coefficients: by how much a product multiplies the variance of white noise |
| W | its running sum modulo X^n + 1: w times 1 + X + ... + X^(n-1) |
| row | a response, up to windows, which share their weights |

SEAL's key switching multiplies the noise of a key by digits in [0, q_i), which are not centred: they are q_i / 2 plus
something uniform. So three quarters of its noise is q_i / 2P times the key's noise times 1 + X + ... + X^(n-1): it is
smooth, and the same in every inference under one key. Products with the same rotation meet the same noise, so their
weights add up before the norm is taken.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from autoprivacy.protocol.error_law import FloatArray
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.packing import CoefficientLayout
from autoprivacy.protocol.seal_context import seal_context
from autoprivacy.protocol.seal_keys import galois_element
from autoprivacy.protocol.slot_geometry import BoolArray
from autoprivacy.protocol.slot_packing import SlotLayout


@dataclass(frozen=True, slots=True, eq=False)
class ProductNorms:
    """Per row (R,): what multiplies the variances of the noise that meets the row's products.

    | field | multiplies |
    |---|---|
    | fresh | the noise of an input: the sum of abs(w)^2 |
    | switched | what one key switching adds at random: abs(w)^2 for every rotation of its input |
    | fixed | what a key determines, over n: abs(W)^2 for every rotation, known weights |
    | unknown | the same for weights that only public figures describe, by key (R, keys) |
    | after | one key switching: how often the sum of products is rotated, folds not counted |
    """

    fresh: FloatArray
    switched: FloatArray
    fixed: FloatArray
    unknown: FloatArray
    after: FloatArray


def coefficient_norms(layout: CoefficientLayout, weight: IntArray) -> ProductNorms:
    """Of a layer without rotations: channels that share a product share all of its noise.

    Weights lie within t/2 of zero, as those of every policy do: beyond it SEAL takes them modulo t.
    """
    fresh = (layout.row_weights(weight).astype(np.float64) ** 2).sum(axis=1)
    none = np.zeros_like(fresh)
    return ProductNorms(fresh, none, none, np.zeros((len(fresh), 0)), none)


def slot_norms(he_set: HeSet, layout: SlotLayout, weight: IntArray) -> ProductNorms:
    """Of the very polynomials that the weights are encoded to; takes as long as encoding them."""
    paths = rotation_paths(layout)
    rows = layout.group_slabs * layout.out_parts
    fresh, switched, fixed = np.zeros((3, rows))
    used = np.zeros(layout.products_shape[:4], bool)
    steps = np.tile(layout.baby_rotations.ravel(), layout.in_parts).tolist()
    sums = zip(np.ndindex(used.shape), layout.encode_weights(weight), strict=True)
    for (slab, part, swap, giant), products in sums:
        row = slab * layout.out_parts + part
        met: dict[tuple[int, int], FloatArray] = defaultdict(lambda: np.zeros(layout.n))
        for step, polynomial in _polynomials(he_set, products, steps):
            used[slab, part, swap, giant] = True
            norm = float(polynomial @ polynomial)
            fresh[row] += norm
            switched[row] += norm * len(paths[step])
            for key, end in paths[step]:
                # The noise of this key is turned on by what is left; turning the weights back is the same.
                rest = (end - step) % layout.row
                met[key, rest] += automorphism(polynomial, layout.n, rest) if rest else polynomial
        fixed[row] += sum(map(_running_norm, met.values())) / layout.n
    return ProductNorms(fresh, switched, fixed, np.zeros((rows, 0)), _rotations_after(used).reshape(rows))


def expected_slot_norms(t: int, layout: SlotLayout, weight: IntArray) -> ProductNorms:
    """Of polynomials with coefficients uniform modulo t, one for every product that has a weight other than zero.

    Weights encode to dense polynomials that look uniform, unless slots repeat; which they are is not looked at.
    """
    nonzero = layout.nonzero(weight)
    paths = rotation_paths(layout)
    rows = layout.group_slabs * layout.out_parts
    steps = layout.baby_rotations.ravel().tolist()
    counts = nonzero.sum(axis=(2, 3, 4)).reshape(rows, len(steps))
    keys = {key: index for index, key in enumerate(sorted({key for path in paths.values() for key, _ in path}))}
    dense = layout.n * (t * t - 1) / 12
    unknown = np.zeros((rows, len(keys)))
    for column, step in enumerate(steps):
        for key, _ in paths[step]:
            unknown[:, keys[key]] += dense * counts[:, column]
    return ProductNorms(
        fresh=dense * counts.sum(axis=1),
        switched=unknown.sum(axis=1),
        fixed=np.zeros(rows),
        unknown=unknown,
        after=_rotations_after(np.logical_or.reduce(nonzero, axis=(4, 5, 6))).reshape(rows),
    )


def rotation_paths(layout: SlotLayout) -> dict[int, tuple[tuple[int, int], ...]]:
    """By rotation of an input: its key switchings, each the step of its key, and the rotation that it arrives at."""
    paths: dict[int, tuple[tuple[int, int], ...]] = {0: ()}
    for step in layout.baby_rotations.ravel().tolist():
        chain = []
        at = step
        while at in layout.parents:
            parent = layout.parents[at]
            chain.append(((at - parent) % layout.row, at))
            at = parent
        paths[step] = tuple(reversed(chain))
    return paths


def automorphism(polynomial: FloatArray, n: int, step: int) -> FloatArray:
    """What rotating slots by `step` does to coefficients (n,): X becomes X^g."""
    places = np.arange(n) * galois_element(n, step) % (2 * n)
    turned = np.empty_like(polynomial)
    turned[places % n] = np.where(places < n, polynomial, -polynomial)
    return turned


@lru_cache(maxsize=256)
def fold_gains(layout: SlotLayout) -> tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...]]:
    """What folding a response onto its copies does to white noise, by class of coefficients.

    Folding adds a polynomial to itself under X -> X^g. A rotation by n/4 slots is X^k -> (-1)^k X^k: odd coefficients
    vanish and even ones double. So the variance depends on how often 2 divides k: for each class the number of its
    coefficients, the factor on the variance before folding, and the factor on that of the folds' key switchings.
    """
    n, folds = layout.n, layout.folds
    if not folds:
        return (n,), (1.0,), (0.0,)
    classes = range(n.bit_length())
    counts = tuple(max(1, n >> (twos + 1)) for twos in classes)
    gains = tuple(_gain(n, folds[0], 1 << len(folds), twos) for twos in classes)
    added = tuple(
        sum(_gain(n, step << 1, 1 << (len(folds) - 1 - fold), twos) for fold, step in enumerate(folds))
        for twos in classes
    )
    return counts, gains, added


def _gain(n: int, step: int, copies: int, twos: int) -> float:
    """The variance of coefficient 2^twos in a sum of `copies` of white noise, each rotated by `step` from the last."""
    met: Counter[int] = Counter()
    place, turn = (1 << twos) % (2 * n), galois_element(n, step) if copies > 1 else 1
    if twos == n.bit_length() - 1:
        place = 0
    for _ in range(copies):
        met[place % n] += 1 if place < n else -1
        place = place * turn % (2 * n)
    return float(sum(count * count for count in met.values()))


def _polynomials(he_set: HeSet, products: IntArray, steps: list[int]) -> Iterator[tuple[int, FloatArray]]:
    """The centred coefficients that slots (products, n) encode to, by the rotation of the input that they meet."""
    for step, values in zip(steps, products, strict=True):
        if values.any():
            yield step, encoded_coefficients(he_set, values)


def encoded_coefficients(he_set: HeSet, slots: IntArray) -> FloatArray:
    """The centred coefficients (n,) of the plaintext with these slots."""
    context = seal_context(he_set)
    values = context.decode(context.encode(slots, "slots"), "coefficients")
    return centred(values, he_set.t).astype(np.float64)


def centred(values: IntArray, t: int) -> IntArray:
    """What values modulo t multiply noise by: SEAL lifts those above t/2 to negative ones."""
    reduced = values % t
    return np.where(reduced > t // 2, reduced - t, reduced)


def _running_norm(polynomial: FloatArray) -> float:
    """abs(W)^2 of w (n,)."""
    running = 2 * np.cumsum(polynomial) - polynomial.sum()
    return float(running @ running)


def _rotations_after(used: BoolArray) -> FloatArray:
    """(group slabs, out parts) from which sums (.., swaps, giants) there are: Horner's rule, then the swap."""
    highest = np.where(used, np.arange(used.shape[3]), 0).max(axis=3).sum(axis=2)
    swapped = used[:, :, 1:].any(axis=(2, 3)) if used.shape[2] > 1 else np.zeros(used.shape[:2], bool)
    found: FloatArray = (highest + swapped).astype(np.float64)
    return found
