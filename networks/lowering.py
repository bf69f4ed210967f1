"""The float graph made ready for integers: where tensors are rounded to integers, and what is local in between.

An accumulator (what a linear layer, an Add, or the mean pool of one puts out) is rounded at its activation, before a
max pool, and where a linear layer reads it. Then every reader but an activation takes the rounded tensor, so that it
is rounded once. Means and sums of rounded tensors are exact, and rounded only where they must be.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from math import prod
from typing import TypeAlias, TypeVar

from autoprivacy.common.errors import BadInput
from autoprivacy.networks.graph import (
    INPUT,
    Activation,
    Add,
    AnyLayer,
    AvgPool,
    Conv2d,
    Flatten,
    Linear,
    LinearLayer,
    MaxPool,
    Network,
    Pool,
    ReLU,
    ReLU6,
    Reshape,
    Shape,
    View,
    infer_shapes,
)


@dataclass(frozen=True, slots=True)
class Rounding:
    """A tensor that is requantised: `tensor` names the float layer that puts it out.

    It is not negative if `rectified` (by an activation here, or by those before it), and at most 6 if `capped` here.
    """

    name: str
    inputs: tuple[str, ...]
    tensor: str
    rectified: bool
    capped: bool


Node: TypeAlias = LinearLayer | Pool | Add | View | Rounding
"""Layers other than activations, which have become `Rounding`s."""


@dataclass(frozen=True, slots=True)
class Lowered:
    """The nodes in order, and by rounded tensor (the input among them) what its width depends on.

    `readers` are the linear layers that read it, through views and pools; where there are none, those reached first
    downstream; where there are none either, the last of the network.
    """

    nodes: tuple[Node, ...]
    readers: dict[str, tuple[str, ...]]
    shared: tuple[tuple[str, ...], ...]
    """Groups of linear layers that read the same rounded tensor."""


@lru_cache(maxsize=64)
def lower(network: Network) -> Lowered:
    """The nodes that `network` is quantised as."""
    layers = _activations_first(_without_idle_activations(network.layers))
    nodes = _with_roundings(layers)
    read = _readers(nodes)
    last = network.linear_layers[-1:]
    direct, reached = {}, {}
    for name in (INPUT, *(node.name for node in nodes if isinstance(node, Rounding))):
        direct[name] = _linear_readers(name, read, (MaxPool, AvgPool, Flatten, Reshape))
        downstream = _linear_readers(name, read, (MaxPool, AvgPool, Flatten, Reshape, Add, Rounding))
        reached[name] = direct[name] or downstream or tuple(layer.name for layer in last)
    order = [layer.name for layer in network.linear_layers]
    shared = sorted(filter(None, direct.values()), key=lambda group: order.index(group[0]))
    return Lowered(nodes, reached, tuple(shared))


def _without_idle_activations(layers: Iterable[AnyLayer]) -> list[AnyLayer]:
    """Leave out what does nothing: a ReLU on what is not negative, a ReLU6 on what is at most 6 as well."""
    kept: list[AnyLayer] = []
    renamed: dict[str, str] = {}
    signs = Signs()
    for original in layers:
        layer = replace(original, inputs=tuple(renamed.get(name, name) for name in original.inputs))
        if _is_idle(layer, signs):
            renamed[layer.name] = layer.inputs[0]
        else:
            signs.add(layer)
            kept.append(layer)
    return kept


class Signs:
    """Which values cannot be negative, and which cannot pass 6, by what they went through."""

    def __init__(self) -> None:
        self.rectified: set[str] = set()
        self.capped: set[str] = set()

    def add(self, layer: AnyLayer) -> None:
        """Note a layer that comes after its inputs."""
        keeps = isinstance(layer, MaxPool | AvgPool | Flatten | Reshape)
        adds_up = keeps or isinstance(layer, Add)
        if isinstance(layer, ReLU | ReLU6) or (adds_up and self.rectified.issuperset(layer.inputs)):
            self.rectified.add(layer.name)
        keeps_cap = (keeps or isinstance(layer, ReLU)) and layer.inputs[0] in self.capped
        if isinstance(layer, ReLU6) or keeps_cap:
            self.capped.add(layer.name)


def _is_idle(layer: AnyLayer, signs: Signs) -> bool:
    if not isinstance(layer, ReLU | ReLU6) or layer.inputs[0] not in signs.rectified:
        return False
    return isinstance(layer, ReLU) or layer.inputs[0] in signs.capped


def _activations_first(layers: Sequence[AnyLayer]) -> list[AnyLayer]:
    """Exchange a max pool or a view with the activation that alone reads it: both are monotone or mere order."""
    found = list(layers)
    while True:
        read = _readers(found)
        pair = next((pair for layer in found if (pair := _with_sole_activation(layer, read[layer.name]))), None)
        if pair is None:
            return found
        found = _exchanged(found, *pair)


def _with_sole_activation(layer: AnyLayer, readers: Sequence[AnyLayer]) -> tuple[MaxPool | View, Activation] | None:
    if isinstance(layer, MaxPool | Flatten | Reshape) and len(readers) == 1 and isinstance(readers[0], ReLU | ReLU6):
        return layer, readers[0]
    return None


def _exchanged(layers: Sequence[AnyLayer], moved: MaxPool | View, activation: Activation) -> list[AnyLayer]:
    found: list[AnyLayer] = []
    for layer in layers:
        if layer is moved:
            found += [replace(activation, inputs=moved.inputs), replace(moved, inputs=(activation.name,))]
        elif layer is not activation:
            inputs = tuple(moved.name if name == activation.name else name for name in layer.inputs)
            found.append(replace(layer, inputs=inputs))
    return found


def _with_roundings(layers: Sequence[AnyLayer]) -> tuple[Node, ...]:
    """Activations become roundings, and tensors that are read by linear layers or max pools are rounded."""
    names = {layer.name for layer in layers}
    read = _readers(layers)
    nodes: list[Node] = []
    signs = Signs()
    rounded: dict[str, str] = {}  # what readers other than activations take in a value's place
    exact = {INPUT}  # rounded values, and those that circuits make of them
    pooled: set[str] = set()  # sums of rounded values, which linear layers can read as they are
    for layer in layers:
        signs.add(layer)
        if isinstance(layer, ReLU | ReLU6):
            nodes.append(Rounding(layer.name, layer.inputs, layer.name, rectified=True, capped=layer.kind == "relu6"))
            exact.add(layer.name)
            continue
        node = replace(layer, inputs=tuple(rounded.get(name, name) for name in layer.inputs))
        nodes.append(node)
        kept = isinstance(node, MaxPool | Flatten | Reshape)
        if kept and node.inputs[0] in exact:
            exact.add(node.name)
        elif isinstance(node, AvgPool | Flatten | Reshape) and node.inputs[0] in exact | pooled:
            pooled.add(node.name)
        if node.name not in exact and _is_rounded(node.name, read, pooled=node.name in pooled):
            name = unused_name(f"{node.name}.rounded", names)
            rectified = node.name in signs.rectified
            nodes.append(Rounding(name, (node.name,), node.name, rectified=rectified, capped=False))
            rounded[node.name] = name
            exact.add(name)
    return tuple(nodes)


def _is_rounded(name: str, read: dict[str, list[AnyLayer]], *, pooled: bool) -> bool:
    """Whether a max pool or a linear layer reads the value, through views; a linear layer takes what is pooled."""
    return any(
        isinstance(reader, MaxPool)
        or (isinstance(reader, Conv2d | Linear) and not pooled)
        or (isinstance(reader, Flatten | Reshape) and _is_rounded(reader.name, read, pooled=pooled))
        for reader in read[name]
    )


N = TypeVar("N", AnyLayer, Node)


def _readers(nodes: Iterable[N]) -> dict[str, list[N]]:
    read: dict[str, list[N]] = defaultdict(list)
    for node in nodes:
        for name in dict.fromkeys(node.inputs):
            read[name].append(node)
    return read


def _linear_readers(name: str, read: dict[str, list[Node]], through: tuple[type, ...]) -> tuple[str, ...]:
    """The linear layers that are met first from a value on, passing only nodes of the kinds in `through`."""
    found: dict[str, None] = {}
    waiting, seen = [name], {name}
    while waiting:
        for node in read[waiting.pop(0)]:
            if isinstance(node, Conv2d | Linear):
                found[node.name] = None
            elif isinstance(node, through) and node.name not in seen:
                seen.add(node.name)
                waiting.append(node.name)
    return tuple(found)


def unused_name(name: str, names: set[str]) -> str:
    """`name`, lengthened until it is none of `names`; it becomes one of them."""
    while name in names:
        name += "_"
    names.add(name)
    return name


@dataclass(frozen=True, slots=True)
class Flow:
    """Where the accumulators of a linear layer go: the roundings they reach through sums, means and views.

    `one_step` says that all channels need the same step: as logits, or where a Reshape cuts channels anew.
    """

    roundings: tuple[Rounding, ...]
    one_step: bool


def flows(network: Network, nodes: Sequence[Node]) -> dict[str, Flow]:
    """The flow of every linear layer, by its name."""
    shapes = infer_shapes(network)
    return {node.name: _flow(node, nodes, shapes) for node in nodes if isinstance(node, Conv2d | Linear)}


def _flow(layer: LinearLayer, nodes: Sequence[Node], shapes: Mapping[str, Shape]) -> Flow:
    reached = {layer.name}
    roundings, one_step = [], False
    for node in nodes:
        if reached.isdisjoint(node.inputs):
            continue
        if isinstance(node, Rounding):
            roundings.append(node)
        elif isinstance(node, Add | AvgPool | Flatten | Reshape):
            reached.add(node.name)
            one_step |= (
                isinstance(node, Reshape) and len(node.shape) == 3 and node.shape[0] != shapes[node.inputs[0]][0]
            )
    return Flow(tuple(roundings), one_step or nodes[-1].name in reached)


def factors(nodes: Sequence[Node]) -> dict[str, Fraction]:
    """The factor of every value.

    Raises:
        BadInput: naming an Add of values whose factors differ.
    """
    found = {INPUT: Fraction(1)}
    for node in nodes:
        entering = [found[name] for name in node.inputs]
        if isinstance(node, Add) and len(set(entering)) > 1:
            raise BadInput(
                f"layer {node.name!r}: it adds means over windows of different sizes ("
                f"{', '.join(f'{name}: 1/{1 / factor}' for name, factor in zip(node.inputs, entering, strict=True))}, "
                "powers of two left out); only powers of two can be aligned"
            )
        match node:
            case Conv2d() | Linear():
                found[node.name] = Fraction(1)
            case AvgPool():
                window = prod(node.kernel)
                found[node.name] = entering[0] / (window >> twos(window))
            case _:
                found[node.name] = entering[0]
    return found


def twos(number: int) -> int:
    """How many times 2 divides a number."""
    return (number & -number).bit_length() - 1


def spatial(shape: Shape) -> tuple[int, int, int]:
    """A shape as (C, H, W); a flat tensor is (F, 1, 1)."""
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)
