"""Quantisation of a trained network to integers, exactly as the private protocol computes it (docs/protocol.md).

| symbol | meaning |
|---|---|
| w, b | bits of a layer's signed weights, and of the activations that enter it |
| e | exponent of a value, per channel: an integer q stands for q * f * 2^-e |
| f | factor of a value: 1, but 1 / odd where a mean over a window has left it |
| s | shift: an accumulator of exponent e loses s = e - e' bits, at least 0, to become an activation of exponent e' |

Weights have one step per output channel, activations one per tensor; all of least squared error. Logits have one step,
or they could not be compared. A linear layer takes its input's factor into its weights. Biases are integers at the
accumulator's scale; before a circuit drops s bits, 2^(s-1) has been added, so that it rounds.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Final

import numpy as np

from autoprivacy.common.errors import BadInput
from autoprivacy.networks.calibration import calibrate
from autoprivacy.networks.checkpoint import TrainedNetwork
from autoprivacy.networks.convolution import Floats, Ints
from autoprivacy.networks.graph import (
    INPUT,
    Add,
    AvgPool,
    Conv2d,
    Flatten,
    Linear,
    LinearLayer,
    MaxPool,
    Network,
    Reshape,
    infer_shapes,
)
from autoprivacy.networks.integer_network import (
    Image,
    IntegerLinear,
    IntegerSum,
    LayerWidths,
    Operation,
    QuantisedNetwork,
    Range,
    Requantisation,
    Requantise,
    View,
    Widths,
    WindowMax,
    WindowSum,
    sources,
)
from autoprivacy.networks.integer_weights import IntegerWeights, fitted, integer_bias, least_squares_weights
from autoprivacy.networks.lowering import Flow, Node, Rounding, factors, flows, lower, spatial, twos, unused_name
from autoprivacy.networks.rounding import Values, signed_range, unsigned_range

LEAST_BITS: Final = 2
MOST_BITS: Final = 16
MOST_SHIFT: Final = 52


def uniform_widths(network: Network, bits: int) -> Widths:
    """The same bits for all weights and activations."""
    return Widths(tuple(LayerWidths(layer.name, bits, bits) for layer in network.linear_layers))


def check_network(network: Network) -> None:
    """Refuse a network that cannot be quantised, at whatever widths and with whatever weights.

    Raises:
        BadInput: if it has no linear layer, or if an Add meets tensors whose factors differ.
    """
    if not network.linear_layers:
        raise BadInput(f"network {network.name!r}: it has no linear layer; there is nothing to quantise")
    factors(lower(network).nodes)


def shared_inputs(network: Network) -> tuple[tuple[str, ...], ...]:
    """The linear layers in groups that read the same tensor: those of one group have the same `activation_bits`."""
    return lower(network).shared


class Quantiser:
    """Quantises one trained network to any widths; steps are chosen on calibration images (N, C, H, W) alone.

    Calibration runs once, and integer weights are kept by layer and bits, so that a search may ask thousands of times.

    Raises:
        BadInput: if there are no images or they do not fit, if the network has no linear layer, or if an Add meets
            tensors whose factors differ.
    """

    def __init__(self, trained: TrainedNetwork, x: Floats) -> None:
        network = trained.network
        check_network(network)
        self._trained = trained
        self._hash = trained.hash
        self._lowered = lower(network)
        self._factors = factors(self._lowered.nodes)
        self._flows = flows(network, self._lowered.nodes)
        self._calibration = calibrate(trained, x)
        self._floats: dict[str, Values] = {}
        self._weights: dict[tuple[str, int], IntegerWeights] = {}

    @property
    def trained(self) -> TrainedNetwork:
        """The network that is quantised."""
        return self._trained

    def quantise(self, widths: Widths) -> QuantisedNetwork:
        """The network at these widths.

        Raises:
            BadInput: if they do not name every linear layer once and in order, are out of range, or give different
                activation bits to layers that read one tensor; if a bias or a shift is out of all proportion.
        """
        network = self._trained.network
        _check_widths(network, widths)
        build = _Build(self, widths)
        for node in self._lowered.nodes:
            build.add(node)
        entering, logits = build.values[INPUT], build.values[self._lowered.nodes[-1].name]
        return QuantisedNetwork(
            name=network.name,
            trained_hash=self._hash,
            widths=widths,
            operations=_with_rounding_constants(build.operations),
            input_shape=network.input_shape,
            input_range=entering.reached,
            input_step=2.0 ** -int(entering.exponents[0]),
            logit_scale=float(self._factors[self._lowered.nodes[-1].name]) * 2.0 ** -int(logits.exponents[0]),
        )

    def input_step(self, bits: int) -> tuple[int, Range]:
        """The step exponent of the input, and between which integers it lies: signed if a pixel was negative."""
        signed = self._calibration.least(INPUT) < 0
        exponent = self._calibration.exponent(INPUT, bits, signed=signed)
        return exponent, signed_range(bits) if signed else unsigned_range(bits)

    def readers(self, tensor: str) -> tuple[str, ...]:
        """The linear layers whose activation bits a rounded tensor, or the input, has."""
        return self._lowered.readers[tensor]

    def exponent(self, rounding: Rounding, bits: int) -> int:
        """The best step exponent of a tensor."""
        factor = self._factors[rounding.name]
        return self._calibration.exponent(rounding.tensor, bits, signed=not rounding.rectified, factor=factor)

    def unit(self, rounding: Rounding, exponent: int) -> float:
        """What one unit of a tensor with this exponent stands for."""
        return float(self._factors[rounding.name]) * 2.0**-exponent

    def flow(self, layer: LinearLayer) -> Flow:
        """Where the layer's accumulators go."""
        return self._flows[layer.name]

    def float_weight(self, layer: LinearLayer) -> Values:
        """Weights (M, C / groups, kh, kw) in float64, the factor of what enters taken in."""
        if layer.name not in self._floats:
            weight = self._trained.weights[f"{layer.name}.weight"]
            shaped = weight.reshape(*weight.shape, *[1] * (4 - weight.ndim)).astype(np.float64)
            self._floats[layer.name] = shaped * float(self._factors[layer.inputs[0]])
        return self._floats[layer.name]

    def least_squares(self, layer: LinearLayer, bits: int) -> IntegerWeights:
        """The layer's integer weights, before anything is known of what enters it."""
        if (layer.name, bits) not in self._weights:
            one_step = self._flows[layer.name].one_step
            self._weights[layer.name, bits] = least_squares_weights(self.float_weight(layer), bits, one_step=one_step)
        return self._weights[layer.name, bits]


@dataclass(frozen=True, slots=True, eq=False)
class _Value:
    """A value on its way to integers: its exponents (C,), its shape, and between which integers it lies.

    `reached` is (0, 0) for accumulators, which no linear layer reads.
    """

    exponents: Ints
    shape: Image
    reached: Range = (0, 0)


class _Build:
    """The operations of one quantisation, added node by node."""

    def __init__(self, quantiser: Quantiser, widths: Widths) -> None:
        self._quantiser = quantiser
        self._widths = {width.layer: width for width in widths.layers}
        shape = quantiser.trained.network.input_shape
        bits = self._bits(INPUT)
        exponent, reached = quantiser.input_step(bits)
        self.values = {INPUT: _Value(np.full(shape[0], exponent), shape, reached)}
        self.operations: list[Operation] = []

    def add(self, node: Node) -> None:
        """Add what a node becomes."""
        match node:
            case Conv2d() | Linear():
                made = self._linear(node)
            case Rounding():
                made = self._rounding(node)
            case Add():
                made = self._sum(node)
            case AvgPool() | MaxPool():
                made = self._pool(node)
            case Flatten() | Reshape():
                made = self._view(node)
        self.values[node.name] = made

    def _bits(self, tensor: str) -> int:
        return max(self._widths[layer].activation_bits for layer in self._quantiser.readers(tensor))

    def _shape(self, node: Node) -> Image:
        return spatial(infer_shapes(self._quantiser.trained.network)[node.name])

    def _linear(self, layer: LinearLayer) -> _Value:
        entering, bits = self.values[layer.inputs[0]], self._widths[layer.name].weight_bits
        exponent = int(entering.exponents[0])
        weights = self._weights(layer, bits, float(max(map(abs, entering.reached))) * 2.0**-exponent)
        exponents = weights.exponents + exponent
        bias = self._quantiser.trained.weights[f"{layer.name}.bias"].astype(np.float64)
        made = IntegerLinear(
            name=layer.name,
            kind=layer.kind,
            source=layer.inputs[0],
            weight=weights.integers,
            bias=integer_bias(layer.name, bias, exponents),
            stride=layer.stride if isinstance(layer, Conv2d) else (1, 1),
            padding=layer.padding if isinstance(layer, Conv2d) else (0, 0, 0, 0),
            groups=layer.groups if isinstance(layer, Conv2d) else 1,
            input_shape=entering.shape,
            output_shape=self._shape(layer),
            input_range=entering.reached,
        )
        self.operations.append(made)
        return _Value(exponents, made.output_shape)

    def _weights(self, layer: LinearLayer, bits: int, input_reach: float) -> IntegerWeights:
        chosen, flow = self._quantiser.least_squares(layer, bits), self._quantiser.flow(layer)
        if flow.one_step:
            return chosen
        bias = self._quantiser.trained.weights[f"{layer.name}.bias"].astype(np.float64)
        held = np.maximum(np.abs(bias), max((self._half_step(rounding) for rounding in flow.roundings), default=0.0))
        return fitted(self._quantiser.float_weight(layer), chosen, bits, held, input_reach)

    def _half_step(self, rounding: Rounding) -> float:
        """What rounding adds to the accumulators."""
        exponent = self._quantiser.exponent(rounding, self._bits(rounding.name))
        return self._quantiser.unit(rounding, exponent) / 2

    def _rounding(self, rounding: Rounding) -> _Value:
        bits, entering = self._bits(rounding.name), self.values[rounding.inputs[0]]
        # A step finer than the accumulator's own would need bits that are not there.
        exponent = min(self._quantiser.exponent(rounding, bits), int(entering.exponents.min()))
        shifts = entering.exponents - exponent
        if shifts.max() > MOST_SHIFT:
            raise BadInput(
                f"layer {rounding.tensor!r}: {shifts.max()} bits would be dropped before it, at most {MOST_SHIFT} can "
                "be; the weights before it are too small beside what follows"
            )
        maximum = None
        if rounding.capped:
            six = int(np.floor(6 / self._quantiser.unit(rounding, exponent) + 0.5))
            maximum = six if six < 2**bits - 1 else None
        rule = Requantise(shifts, bits, relu=rounding.rectified, maximum=maximum)
        self.operations.append(Requantisation(rounding.name, rounding.inputs[0], rule))
        return _Value(np.full_like(shifts, exponent), entering.shape, rule.range)

    def _sum(self, layer: Add) -> _Value:
        terms = [self.values[name].exponents for name in layer.inputs]
        finest = np.max(terms, axis=0)
        shifts = [finest - exponents for exponents in terms]
        if max(shift.max() for shift in shifts) > MOST_SHIFT:
            raise BadInput(f"layer {layer.name!r}: the steps of its inputs differ by more than 2^{MOST_SHIFT}")
        self.operations.append(
            IntegerSum(layer.name, tuple(zip(layer.inputs, shifts, strict=True)), np.zeros_like(finest))
        )
        return _Value(finest, self._shape(layer))

    def _pool(self, layer: AvgPool | MaxPool) -> _Value:
        entering, shape = self.values[layer.inputs[0]], self._shape(layer)
        fields = (layer.name, layer.inputs[0], layer.kernel, layer.stride, layer.padding)
        if isinstance(layer, MaxPool):
            self.operations.append(WindowMax(*fields))
            return replace(entering, shape=shape)
        self.operations.append(WindowSum(*fields))
        window = prod(layer.kernel)
        low, high = entering.reached
        return _Value(entering.exponents + twos(window), shape, (low * window, high * window))

    def _view(self, layer: Flatten | Reshape) -> _Value:
        entering, shape = self.values[layer.inputs[0]], self._shape(layer)
        self.operations.append(View(layer.name, layer.inputs[0], shape))
        each = np.repeat(entering.exponents, prod(entering.shape[1:]))
        # Where channels are cut anew, all have one step: see `Flow`.
        return replace(entering, exponents=each.reshape(shape[0], -1)[:, 0].copy(), shape=shape)


def _with_rounding_constants(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """Add 2^(s-1) to what is requantised: in the bias that makes it if nothing else reads it, else in a sum."""
    made = {operation.name: operation for operation in operations}
    names = {INPUT, *made}
    reads = Counter(name for operation in operations for name in sources(operation))
    folded: dict[str, Ints] = {}
    found: list[Operation] = []
    for operation in operations:
        if not isinstance(operation, Requantisation) or not operation.rule.shifts.any():
            found.append(operation)
            continue
        half = (1 << operation.rule.shifts) >> 1
        source = operation.source
        if reads[source] == 1 and isinstance(made.get(source), IntegerLinear | IntegerSum):
            folded[source] = half
            found.append(operation)
        else:
            moved = IntegerSum(unused_name(f"{operation.name}.half", names), ((source, np.zeros_like(half)),), half)
            found += [moved, replace(operation, source=moved.name)]
    return tuple(
        replace(operation, bias=operation.bias + folded[operation.name])
        if isinstance(operation, IntegerLinear | IntegerSum) and operation.name in folded
        else operation
        for operation in found
    )


def _check_widths(network: Network, widths: Widths) -> None:
    wanted = [layer.name for layer in network.linear_layers]
    given = [width.layer for width in widths.layers]
    if wanted != given:
        raise BadInput(f"network {network.name!r}: widths are given for {given}; give them for {wanted}, in this order")
    for width in widths.layers:
        for what, bits in (("weight_bits", width.weight_bits), ("activation_bits", width.activation_bits)):
            if not LEAST_BITS <= bits <= MOST_BITS:
                raise BadInput(f"layer {width.layer!r}: {what} {bits} must lie in {LEAST_BITS}..{MOST_BITS}")
    entering = {width.layer: width.activation_bits for width in widths.layers}
    for first, *others in shared_inputs(network):
        for other in others:
            if entering[first] != entering[other]:
                raise BadInput(
                    f"layers {first!r} and {other!r} read the same tensor: give them the same activation_bits, "
                    f"not {entering[first]} and {entering[other]}"
                )
