"""A network in integers: what the private protocol computes, operation by operation.

| symbol | meaning |
|---|---|
| value | (C, H, W) integers of one image; a flat tensor is (F, 1, 1) |
| accumulator | what linear layers, sums and mean pools put out: additively shared, modulo t where it runs privately |
| circuit input | an accumulator that is requantised: it enters a garbled circuit |
| activation | what comes out of one |

Every operation reads earlier values by name; `INPUT` is the quantised image, the last value the logits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Final, Literal, TypeAlias

import numpy as np

from autoprivacy.common.errors import BadInput
from autoprivacy.common.records import record
from autoprivacy.networks.convolution import Floats, Ints
from autoprivacy.networks.graph import INPUT, Padding, Pair
from autoprivacy.networks.rounding import signed_range, to_integers, unsigned_range

Range: TypeAlias = tuple[int, int]
"""The least and the greatest integer."""

Image: TypeAlias = tuple[int, int, int]
"""(C, H, W)."""


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


@dataclass(frozen=True, slots=True, eq=False)
class IntegerLinear:
    """A convolution with a bias; a fully connected layer is a 1x1 kernel on (C, 1, 1).

    weight (M, C / groups, kh, kw), bias (M,), both int64. Inputs lie in `input_range` and are padded with zeros.
    """

    name: str
    kind: Literal["conv2d", "linear"]
    source: str
    weight: Ints
    bias: Ints
    stride: Pair
    padding: Padding
    groups: int
    input_shape: Image
    output_shape: Image
    input_range: Range


@dataclass(frozen=True, slots=True, eq=False)
class IntegerSum:
    """The sum of `terms`, each a value and the left shifts (C,) of its channels, and a constant (C,) a channel."""

    name: str
    terms: tuple[tuple[str, Ints], ...]
    bias: Ints


@dataclass(frozen=True, slots=True)
class WindowSum:
    """The sum of each window; padding counts as zeros."""

    name: str
    source: str
    kernel: Pair
    stride: Pair
    padding: Padding


@dataclass(frozen=True, slots=True, eq=False)
class Requantise:
    """What a circuit does with a value of channel c: floor(value / 2^shifts[c]), saturated to `range`.

    The range is [0, 2^bits - 1] after ReLU (or [0, maximum], where 6 is below that after ReLU6), else
    [-2^(bits-1), 2^(bits-1) - 1]. `shifts` (C,) are at least 0.
    """

    shifts: Ints
    bits: int
    relu: bool
    maximum: int | None = None

    @property
    def range(self) -> Range:
        """The least and the greatest value that comes out."""
        if not self.relu:
            return signed_range(self.bits)
        return unsigned_range(self.bits) if self.maximum is None else (0, self.maximum)


@dataclass(frozen=True, slots=True, eq=False)
class Requantisation:
    """A circuit input, and what its circuit does."""

    name: str
    source: str
    rule: Requantise


@dataclass(frozen=True, slots=True)
class WindowMax:
    """The greatest value of each window, in the circuit that requantised it; padding never wins."""

    name: str
    source: str
    kernel: Pair
    stride: Pair
    padding: Padding


@dataclass(frozen=True, slots=True)
class View:
    """The same values in the same order, seen in another shape."""

    name: str
    source: str
    shape: Image


Operation: TypeAlias = IntegerLinear | IntegerSum | WindowSum | Requantisation | WindowMax | View


def sources(operation: Operation) -> tuple[str, ...]:
    """The values that an operation reads."""
    if isinstance(operation, IntegerSum):
        return tuple(name for name, _ in operation.terms)
    return (operation.source,)


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """One linear layer of a chain and the requantisation that follows it; fields as in `IntegerLinear`.

    Inputs lie in [0, 2^input_bits - 1]; a fully connected layer takes the output before it, flattened in (C, H, W)
    order. The last stage has no `requantise`: its accumulators are the logits.
    """

    name: str
    kind: Literal["conv2d", "linear"]
    weight: Ints
    bias: Ints
    stride: Pair
    padding: Padding
    groups: int
    input_shape: Image
    output_shape: Image
    input_bits: int
    requantise: Requantise | None

    @property
    def input_range(self) -> Range:
        """The least and the greatest input."""
        return unsigned_range(self.input_bits)


@dataclass(frozen=True, slots=True, eq=False)
class QuantisedNetwork:
    """A network in integers, and how its ends relate to floats.

    `input_step` is what one unit of the quantised input stands for, `logit_scale` what one unit of a logit stands for;
    `trained_hash` names the checkpoint that this was made from.
    """

    name: str
    trained_hash: str
    widths: Widths
    operations: tuple[Operation, ...]
    input_shape: Image
    input_range: Range
    input_step: float
    logit_scale: float

    @property
    def linear_layers(self) -> tuple[IntegerLinear, ...]:
        """The operations that run under homomorphic encryption, in order."""
        return tuple(operation for operation in self.operations if isinstance(operation, IntegerLinear))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The network as the chain that private runs take.

        Raises:
            BadInput: if it is none, naming the first operation that does not fit.
        """
        return _stages(self)

    def quantise_input(self, x: Floats) -> Ints:
        """Images (N, C, H, W) as integers in `input_range`; what lies outside saturates.

        Raises:
            BadInput: if the images do not have the network's input shape, or hold values that are not finite.
        """
        if x.ndim != 4 or x.shape[1:] != self.input_shape:
            raise BadInput(f"network {self.name!r}: images of shape {x.shape} given; it takes {self.input_shape}")
        scaled = np.asarray(x, dtype=np.float64) / self.input_step
        if not np.isfinite(scaled).all():
            raise BadInput(f"network {self.name!r}: the images hold values that are not finite")
        return to_integers(scaled, *self.input_range)


@dataclass(frozen=True, slots=True)
class Meeting:
    """Linear layers whose accumulators meet before they are requantised or opened: their shares have one modulus.

    `circuit_inputs` names the values that they become: those that are requantised, and the logits where these are
    among them.
    """

    layers: tuple[str, ...]
    circuit_inputs: tuple[str, ...]


def meetings(network: QuantisedNetwork) -> tuple[Meeting, ...]:
    """Every linear layer in exactly one meeting."""
    summed = summed_layers(network)
    first = {layer.name: layer.name for layer in network.linear_layers}
    for layers in summed.values():
        joined = {first[layer] for layer in layers}
        if len(joined) > 1:
            together = next(layer for layer in first if layer in joined)
            first = {layer: together if its in joined else its for layer, its in first.items()}
    entering: dict[str, list[str]] = {}
    for name in circuit_inputs(network):
        if name in summed:
            entering.setdefault(first[summed[name][0]], []).append(name)
    return tuple(
        Meeting(tuple(layer for layer, its in first.items() if its == leader), tuple(entering[leader]))
        for leader in dict.fromkeys(first.values())
    )


def circuit_inputs(network: QuantisedNetwork) -> tuple[str, ...]:
    """The values that enter a circuit, in order, and last the logits."""
    requantised = [operation.source for operation in network.operations if isinstance(operation, Requantisation)]
    return tuple(dict.fromkeys([*requantised, network.operations[-1].name]))


def summed_layers(network: QuantisedNetwork) -> dict[str, tuple[str, ...]]:
    """By value that is no activation, nor made of activations alone: the linear layers that it is a sum of."""
    summed: dict[str, tuple[str, ...]] = {}
    for operation in network.operations:
        match operation:
            case IntegerLinear():
                summed[operation.name] = (operation.name,)
            case IntegerSum() | WindowSum() | View():
                read = [layer for name in sources(operation) for layer in summed.get(name, ())]
                if read:
                    summed[operation.name] = tuple(dict.fromkeys(read))
            case Requantisation() | WindowMax():
                pass
    return summed


def chain_operations(stages: Sequence[Stage]) -> tuple[Operation, ...]:
    """The operations of a chain: `QuantisedNetwork.stages` gives the stages back."""
    operations: list[Operation] = []
    source, shape = INPUT, stages[0].input_shape
    for stage in stages:
        if shape != stage.input_shape:
            operations.append(View(f"{stage.name}.input", source, stage.input_shape))
            source = operations[-1].name
        fields = {field: getattr(stage, field) for field in _SHARED_FIELDS}
        operations.append(IntegerLinear(source=source, input_range=stage.input_range, **fields))
        if stage.requantise is not None:
            operations.append(Requantisation(f"{stage.name}.activation", stage.name, stage.requantise))
        source, shape = operations[-1].name, stage.output_shape
    return tuple(operations)


_SHARED_FIELDS: Final = (
    *("name", "kind", "weight", "bias", "stride", "padding", "groups", "input_shape", "output_shape"),
)
"""What `Stage` and `IntegerLinear` both have."""


def _stages(network: QuantisedNetwork) -> tuple[Stage, ...]:
    """Read the chain; every operation must read the one before it."""
    found: list[Stage] = []
    linear: IntegerLinear | None = None
    before = INPUT
    for operation in network.operations:
        in_line = sources(operation) == (before,)
        match operation:
            case IntegerLinear() if in_line and linear is None and operation.input_range[0] == 0:
                linear = operation
            case Requantisation() if in_line and linear is not None and _plain(operation, linear):
                found.append(_stage(linear, operation.rule))
                linear = None
            case View() if in_line:
                pass
            case _:
                raise _misfit(network, operation)
        before = operation.name
    if linear is None:
        raise _misfit(network, network.operations[-1])
    return (*found, _stage(linear, None))


def _plain(operation: Requantisation, linear: IntegerLinear) -> bool:
    """A ReLU straight after its linear layer."""
    return operation.source == linear.name and operation.rule.relu and operation.rule.maximum is None


def _stage(linear: IntegerLinear, requantise: Requantise | None) -> Stage:
    fields = {field: getattr(linear, field) for field in _SHARED_FIELDS}
    return Stage(input_bits=linear.input_range[1].bit_length(), requantise=requantise, **fields)


def _misfit(network: QuantisedNetwork, operation: Operation) -> BadInput:
    return BadInput(
        f"network {network.name!r}: {operation.name!r} ({type(operation).__name__}) does not fit: private runs take "
        "chains of linear layers with a ReLU after each but the last so far; give such a network"
    )


def value_shapes(network: QuantisedNetwork) -> dict[str, Image]:
    """The shape of every value by name, the input's included."""
    shapes: dict[str, Image] = {INPUT: network.input_shape}
    for operation in network.operations:
        shape = shapes[sources(operation)[0]]
        match operation:
            case IntegerLinear():
                shape = operation.output_shape
            case WindowSum() | WindowMax():
                shape = (shape[0], *_windows(operation, shape))
            case View():
                shape = operation.shape
            case IntegerSum() | Requantisation():
                pass
        shapes[operation.name] = shape
    return shapes


def _windows(pool: WindowSum | WindowMax, shape: Image) -> Pair:
    top, left, bottom, right = pool.padding
    return (
        (shape[1] + top + bottom - pool.kernel[0]) // pool.stride[0] + 1,
        (shape[2] + left + right - pool.kernel[1]) // pool.stride[1] + 1,
    )


def values_per_image(network: QuantisedNetwork) -> int:
    """The most values that any one tensor has."""
    return max(prod(shape) for shape in value_shapes(network).values())
