"""Integer weights of one linear layer: a step per output channel, and how fine it may be."""

from dataclasses import dataclass, replace

import numpy as np

from autoprivacy.common.errors import BadInput
from autoprivacy.networks.convolution import Ints, weight_reach
from autoprivacy.networks.rounding import Values, signed_range, step_exponents, to_integers


@dataclass(frozen=True, slots=True, eq=False)
class IntegerWeights:
    """Weights (M, C / groups, kh, kw) as integers, and the exponents (M,) of their steps.

    `reach` is the greatest sum of magnitudes that a channel has.
    """

    integers: Ints
    exponents: Ints
    reach: int


def least_squares_weights(weight: Values, bits: int, *, one_step: bool) -> IntegerWeights:
    """The weights at the steps of least squared error: one per output channel, or `one_step` for all.

    A channel of zeros takes the finest step of the others, which costs nothing. Where all are zeros only biases are
    left: they get `bits` bits after the point.
    """
    low, high = signed_range(bits)
    rows = weight.reshape(1 if one_step else len(weight), -1)
    exponents = step_exponents(rows, low, high)
    empty = ~rows.any(axis=1)
    exponents[empty] = bits if empty.all() else exponents[~empty].max()
    exponents = np.broadcast_to(exponents, (len(weight),))
    integers = _rounded(weight, exponents, bits)
    return IntegerWeights(integers, exponents, weight_reach(integers))


def fitted(weight: Values, chosen: IntegerWeights, bits: int, held: Values, input_reach: float) -> IntegerWeights:
    """`chosen`, with coarser steps where `held` would not fit the range that the layer's products need anyway.

    `held` (M,) is the greatest of what is added to a channel's products (bias, rounding constant), `input_reach` the
    greatest integer that enters, in the units of the input's step. A channel whose weights are tiny would otherwise
    have so fine a step that its bias, and not any product, decides how large t must be.
    """
    products = chosen.reach * input_reach
    needs = (held > 0) & (products > 0)
    finest = np.floor(np.log2(np.divide(products, held, out=np.ones_like(held), where=needs))).astype(np.int64)
    exponents = np.where(needs, np.minimum(chosen.exponents, finest), chosen.exponents)
    coarser = exponents < chosen.exponents
    if not coarser.any():
        return chosen
    integers = chosen.integers.copy()
    integers[coarser] = _rounded(weight[coarser], exponents[coarser], bits)
    return replace(chosen, integers=integers, exponents=exponents)


def integer_bias(layer: str, bias: Values, exponents: Ints) -> Ints:
    """A bias (M,) at the scale of the accumulators, whose exponents (M,) are given.

    Raises:
        BadInput: if it needs more bits than there are.
    """
    scaled = np.ldexp(bias, exponents)
    if np.abs(scaled).max() >= 2**52:
        raise BadInput(f"layer {layer!r}: its bias is too large beside its weights and inputs to be an integer")
    return np.floor(scaled + 0.5).astype(np.int64)


def _rounded(weight: Values, exponents: Ints, bits: int) -> Ints:
    integers = to_integers(np.ldexp(weight, exponents[:, None, None, None]), *signed_range(bits))
    integers.setflags(write=False)
    return integers
