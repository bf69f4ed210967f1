"""Quantisation of a trained network, exactly as the circuits compute it (docs/protocol.md, "Requantisation").

| symbol | meaning |
|---|---|
| w, b | bits of a layer's signed weights, and of the unsigned activations that enter it |
| e_w, e_x | their step exponents: a weight integer q stands for q * 2^-e_w, an activation integer for q * 2^-e_x |
| s | shift: the accumulator, at scale 2^-(e_w + e_x), loses s bits to reach the next layer's 2^-e_x' |

So s = e_w + e_x - e_x', at least 0. Biases are integers at the accumulator's scale, plus 2^(s-1) so that floor rounds.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import BadInput
from autoprivacy.common.records import record
from autoprivacy.networks.checkpoint import TrainedNetwork, check_images
from autoprivacy.networks.convolution import Floats, Ints, convolve_exact
from autoprivacy.networks.graph import Conv2d, Flatten, Linear, LinearLayer, Network, ReLU, infer_shapes

LEAST_BITS: Final = 2
MOST_BITS: Final = 16
MOST_SHIFT: Final = 52


@record
class LayerWidths:
    """Bits of one linear layer's weights, and of the activations that enter it."""

    layer: str
    weight_bits: int
    activation_bits: int


@record
class Widths:
    """The widths of every linear layer of a network, in order."""

    layers: tuple[LayerWidths, ...]


@dataclass(frozen=True, slots=True)
class Requantise:
    """What follows a linear layer: floor(accumulator / 2^shift), saturated to `bits`.

    The range is [0, 2^bits - 1] after ReLU, else [-2^(bits-1), 2^(bits-1) - 1].
    """

    shift: int
    bits: int
    relu: bool

    @property
    def range(self) -> tuple[int, int]:
        """The least and the greatest value that comes out."""
        return (0, 2**self.bits - 1) if self.relu else (-(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """One linear layer and the requantisation that follows it, in integers.

    weight (M, C, kh, kw), bias (M,), both int64; a fully connected layer is a 1x1 kernel on an input (C, 1, 1), which
    is the output before it, flattened in (C, H, W) order. Inputs lie in [0, 2^input_bits - 1] and are padded with
    zeros. The bias holds the rounding term 2^(shift-1). The last stage has no `requantise`: its accumulators are the
    logits.
    """

    name: str
    kind: Literal["conv2d", "linear"]
    weight: Ints
    bias: Ints
    stride: int
    padding: int
    input_shape: tuple[int, int, int]
    output_shape: tuple[int, int, int]
    input_bits: int
    requantise: Requantise | None


@dataclass(frozen=True, slots=True, eq=False)
class QuantisedNetwork:
    """A network in integers, and how its ends relate to floats.

    `input_step` is what one unit of the quantised input stands for, `logit_scale` what one unit of a logit stands for;
    `trained_hash` names the checkpoint that this was made from.
    """

    name: str
    trained_hash: str
    widths: Widths
    stages: tuple[Stage, ...]
    input_step: float
    logit_scale: float

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.stages[0].input_shape

    def quantise_input(self, x: Floats) -> Ints:
        """Images (N, C, H, W) as integers in [0, 2^input_bits - 1]; what lies outside saturates.

        Raises:
            BadInput: if the images do not have the network's input shape, or hold values that are not finite.
        """
        if x.ndim != 4 or x.shape[1:] != self.input_shape:
            raise BadInput(f"network {self.name!r}: images of shape {x.shape} given; it takes {self.input_shape}")
        scaled = np.asarray(x, dtype=np.float64) / self.input_step
        if not np.isfinite(scaled).all():
            raise BadInput(f"network {self.name!r}: the images hold values that are not finite")
        return to_integers(scaled, 0, 2 ** self.stages[0].input_bits - 1)


def uniform_widths(network: Network, bits: int) -> Widths:
    """The same bits for the weights and the activations of every linear layer."""
    return Widths(tuple(LayerWidths(layer.name, bits, bits) for layer in network.linear_layers))


def quantise(trained: TrainedNetwork, widths: Widths, calibration_x: Floats) -> QuantisedNetwork:
    """The network in integers of the given widths; steps are chosen on `calibration_x` (N, C, H, W) alone.

    Raises:
        BadInput: if the widths do not name every linear layer once and in order, or are out of range; if the graph has
            a form that cannot be quantised; if calibration images are missing or negative.
    """
    network = trained.network
    _check_widths(network, widths)
    _check_form(network)
    check_images(network, calibration_x)
    if not len(calibration_x) or float(calibration_x.min()) < 0:
        raise BadInput(
            f"network {network.name!r}: calibration takes at least one image, of pixels that are not negative"
        )
    layers = network.linear_layers
    entering = _entering_exponents(trained, widths, calibration_x)
    stages = []
    exponent = first_exponent = entering[0]
    for index, (layer, width) in enumerate(zip(layers, widths.layers, strict=True)):
        weight = np.asarray(trained.weights[f"{layer.name}.weight"], dtype=np.float64)
        low, high = signed_range(width.weight_bits)
        weight_exponent = step_exponent(weight, low, high)
        accumulator_exponent = exponent + weight_exponent
        bias = trained.weights[f"{layer.name}.bias"].astype(np.float64)
        requantise = None
        if index + 1 < len(layers):
            # A step finer than the accumulator's own would need bits that are not there.
            exponent = min(entering[index + 1], accumulator_exponent)
            shift = accumulator_exponent - exponent
            if shift > MOST_SHIFT:
                raise BadInput(
                    f"layer {layer.name!r}: {shift} bits would be dropped after it, at most {MOST_SHIFT} can be; "
                    "its weights are too small beside what follows"
                )
            requantise = Requantise(shift, widths.layers[index + 1].activation_bits, relu=True)
        stages.append(
            _stage(
                network,
                layer,
                weight=to_integers(weight * 2.0**weight_exponent, low, high),
                bias=_bias_integers(layer, bias * 2.0**accumulator_exponent),
                input_bits=width.activation_bits,
                requantise=requantise,
            )
        )
    return QuantisedNetwork(
        name=network.name,
        trained_hash=trained.hash,
        widths=widths,
        stages=tuple(stages),
        input_step=2.0**-first_exponent,
        logit_scale=2.0**-accumulator_exponent,
    )


def accumulator_bounds(stage: Stage) -> tuple[Ints, Ints]:
    """The least and the greatest accumulator of each output channel, (M,) each, bias included.

    Over all inputs in [0, 2^input_bits - 1] and all output positions; both are attained (zero padding is no input).
    """
    largest = np.full((1, *stage.input_shape), 2**stage.input_bits - 1, dtype=np.int64)
    lows = _at(stage, np.minimum(stage.weight, 0), largest).min(axis=(0, 2, 3))
    highs = _at(stage, np.maximum(stage.weight, 0), largest).max(axis=(0, 2, 3))
    return lows + stage.bias, highs + stage.bias


def least_modulus_bits(stage: Stage) -> int:
    """The least k such that every accumulator lies in [-2^(k-1), 2^(k-1) - 1], and every input below 2^k."""
    lows, highs = accumulator_bounds(stage)
    # For a negative value v, ~v = -v - 1 needs as many bits as v does beside its sign.
    magnitude = max(int(highs.max()), ~int(lows.min()), 0)
    return max(magnitude.bit_length() + 1, stage.input_bits)


Values: TypeAlias = NDArray[np.floating[Any]]


def step_exponent(values: Values, low: int, high: int) -> int:
    """The e for which rounding to q * 2^-e, q in [low, high], has the least squared error; of equals the least e.

    Sought among the nine e around the finest step at which nothing saturates.
    """
    values = np.asarray(values, dtype=np.float64)
    top, bottom = max(float(values.max(initial=0)), 0.0), max(float(-values.min(initial=0)), 0.0)
    if top == bottom == 0:
        return 0
    # The finest step at which nothing saturates: from there, saturate a little, or take fewer of the levels.
    reach = max(top / high, bottom / -low if low else 0.0)
    finest = int(np.floor(-np.log2(reach)))
    best, best_error = finest, float("inf")
    for exponent in range(finest - 4, finest + 5):
        rounded = to_integers(values * 2.0**exponent, low, high) * 2.0**-exponent
        error = float(np.square(values - rounded).sum())
        if error < best_error:
            best, best_error = exponent, error
    return best


def signed_range(bits: int) -> tuple[int, int]:
    """The least and the greatest integer of that many bits in two's complement."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def to_integers(scaled: Values, low: int, high: int) -> Ints:
    """Round half up, as floor after adding a half does in the circuit, and saturate."""
    # In float64, whatever comes in: a float32 just below a half would be rounded up by the addition.
    rounded = np.floor(np.asarray(scaled, dtype=np.float64) + 0.5)
    integers: Ints = rounded.clip(low, high).astype(np.int64)
    return integers


def _stage(
    network: Network, layer: LinearLayer, *, weight: Ints, bias: Ints, input_bits: int, requantise: Requantise | None
) -> Stage:
    shapes = infer_shapes(network)
    entering, leaving = shapes[layer.inputs[0]], shapes[layer.name]
    if requantise is not None and requantise.shift:
        bias = bias + 2 ** (requantise.shift - 1)
    return Stage(
        name=layer.name,
        kind=layer.kind,
        weight=weight.reshape(*weight.shape, *([1] * (4 - weight.ndim))),
        bias=bias,
        stride=layer.stride if isinstance(layer, Conv2d) else 1,
        padding=layer.padding if isinstance(layer, Conv2d) else 0,
        input_shape=_spatial(entering),
        output_shape=_spatial(leaving),
        input_bits=input_bits,
        requantise=requantise,
    )


def _bias_integers(layer: LinearLayer, scaled: Values) -> Ints:
    if np.abs(scaled).max() >= 2**52:
        raise BadInput(f"layer {layer.name!r}: its bias is too large beside its weights and inputs to be an integer")
    integers: Ints = np.floor(scaled + 0.5).astype(np.int64)
    return integers


def _spatial(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)


def _at(stage: Stage, weight: Ints, x: Ints) -> Ints:
    return convolve_exact(weight, x, stride=stage.stride, padding=stage.padding)


def _entering_exponents(trained: TrainedNetwork, widths: Widths, x: Floats) -> list[int]:
    """The step exponents of what enters each linear layer, chosen on the float network's own values."""
    outputs = trained.outputs(x)
    return [
        step_exponent(outputs[layer.inputs[0]], 0, 2**width.activation_bits - 1)
        for layer, width in zip(trained.network.linear_layers, widths.layers, strict=True)
    ]


def _check_widths(network: Network, widths: Widths) -> None:
    wanted = [layer.name for layer in network.linear_layers]
    given = [width.layer for width in widths.layers]
    if wanted != given:
        raise BadInput(f"network {network.name!r}: widths are given for {given}; give them for {wanted}, in this order")
    for width in widths.layers:
        for what, bits in (("weight_bits", width.weight_bits), ("activation_bits", width.activation_bits)):
            if not LEAST_BITS <= bits <= MOST_BITS:
                raise BadInput(f"layer {width.layer!r}: {what} {bits} must lie in {LEAST_BITS}..{MOST_BITS}")


def _check_form(network: Network) -> None:
    """Refuse what has no integer form here: between two linear layers there must be a ReLU, and none at the ends."""
    started, pending = False, False
    for layer in network.layers:
        match layer:
            case Conv2d() | Linear():
                if pending:
                    raise BadInput(f"layer {layer.name!r}: its input has not passed a ReLU; only that can be quantised")
                started = pending = True
            case ReLU():
                if not started:
                    raise BadInput(
                        f"layer {layer.name!r}: a ReLU before the first linear layer does nothing; remove it"
                    )
                pending = False
            case Flatten():
                pass
    if not pending:
        raise BadInput(f"network {network.name!r}: a linear layer must give the logits; remove the last ReLU")
