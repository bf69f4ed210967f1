"""From the layers as they were read to those of a `Network`: fewer, and only of its kinds.

Two kinds exist only here. An `Affine` (batch normalisation, a bias of its own, a scaled input) goes into a linear layer
next to it where nothing else sees the difference, and else becomes a depthwise 1x1 convolution. A `Pad` goes into the
padding of the layers that read it, or is refused.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import numpy as np

from autoprivacy.common.errors import BadInput
from autoprivacy.networks.convolution import Floats
from autoprivacy.networks.graph import (
    AnyLayer,
    AvgPool,
    Conv2d,
    Flatten,
    Linear,
    MaxPool,
    Padding,
    ReLU,
    ReLU6,
    Reshape,
    Shape,
)


@dataclass(frozen=True, slots=True)
class Affine:
    """scale · x + shift, each one number per channel, or per feature of a flat tensor."""

    name: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pad:
    """Zeros around (C, H, W)."""

    name: str
    inputs: tuple[str, ...]
    padding: Padding


Draft: TypeAlias = AnyLayer | Affine | Pad
"""A layer as it was read."""

AnyDraft = TypeVar("AnyDraft", AnyLayer, Affine, Pad, Draft)

Parameters: TypeAlias = dict[str, tuple[Floats, Floats]]
"""By layer: the weight and the bias of a Conv2d or Linear, the scale and the shift of an Affine."""


@dataclass(slots=True)
class Drafts:
    """Layers in order, by name, with their parameters, and the name of the one whose output counts."""

    layers: dict[str, Draft]
    parameters: Parameters
    output: str

    def uses(self) -> Counter[str]:
        """How often each layer is read, the network's result being one more reader of the last."""
        return Counter([self.output, *(source for layer in self.layers.values() for source in layer.inputs)])


def simplify(drafts: Drafts, shapes: dict[str, Shape], unique: Callable[[str], str]) -> tuple[AnyLayer, ...]:
    """The layers that are left of `drafts`, whose parameters then are theirs.

    Args:
        drafts: changed in place.
        shapes: of the output of every layer, and of the input.
        unique: makes a layer's name that no other layer has.

    Raises:
        BadInput: if a Pad cannot go into the layer that reads it.
    """
    _drop_dead(drafts)
    _fold_pads(drafts)
    _fold_back(drafts)
    _fold_forward(drafts)
    return _lower(drafts, shapes, unique)


def _drop_dead(drafts: Drafts) -> None:
    needed = {drafts.output}
    for layer in reversed(drafts.layers.values()):
        if layer.name in needed:
            needed.update(layer.inputs)
    drafts.layers = {name: layer for name, layer in drafts.layers.items() if name in needed}


def _reading(layer: Draft, renamed: dict[str, str]) -> Draft:
    return replace(layer, inputs=tuple(renamed.get(source, source) for source in layer.inputs))


def _fold_pads(drafts: Drafts) -> None:
    pads: dict[str, Pad] = {}
    kept: dict[str, Draft] = {}
    for layer in drafts.layers.values():
        under = [pads[source] for source in layer.inputs if source in pads]
        found = _padded(layer, under[0], kept) if under else layer
        if isinstance(found, Pad):
            pads[found.name] = found
        else:
            kept[found.name] = found
    if drafts.output in pads:
        raise BadInput(f"{drafts.output!r} pads the network's result, which no layer here does")
    drafts.layers = kept


def _padded(layer: Draft, pad: Pad, before: dict[str, Draft]) -> Draft:
    """`layer` with the zeros that it reads from `pad` as padding of its own."""
    if not isinstance(layer, Conv2d | AvgPool | MaxPool | Pad):
        raise BadInput(f"{pad.name!r} pads what {layer.name!r} reads; only convolutions and pools can be padded")
    # A pool's own padding never wins, zeros do; the two are the same where nothing is negative.
    if isinstance(layer, MaxPool) and not isinstance(before.get(pad.inputs[0]), ReLU | ReLU6):
        raise BadInput(
            f"{pad.name!r} pads with zeros what the max pool {layer.name!r} reads; that is supported only right after "
            "a ReLU: use the pool's own padding"
        )
    top, left, bottom, right = (own + more for own, more in zip(layer.padding, pad.padding, strict=True))
    return replace(layer, inputs=pad.inputs, padding=(top, left, bottom, right))


def _fold_back(drafts: Drafts) -> None:
    """Put every Affine into the linear layer that it alone reads."""
    uses = drafts.uses()
    kept: dict[str, Draft] = {}
    renamed: dict[str, str] = {}
    for given in drafts.layers.values():
        layer = _reading(given, renamed)
        source = layer.inputs[0]
        foldable = isinstance(kept.get(source), Conv2d | Linear | Affine) and uses[source] == 1
        if isinstance(layer, Affine) and foldable:
            drafts.parameters[source] = _after(drafts.parameters[source], drafts.parameters.pop(layer.name))
            renamed[layer.name] = source
            uses[source] = uses[layer.name]
        else:
            kept[layer.name] = layer
    drafts.layers = kept
    drafts.output = renamed.get(drafts.output, drafts.output)


def _after(linear: tuple[Floats, Floats], affine: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """What a linear layer's parameters become if an affine map follows it."""
    weight, bias = (values.astype(np.float64) for values in linear)
    scale, shift = (values.astype(np.float64) for values in affine)
    per_output = scale.reshape(-1, *(1,) * (weight.ndim - 1))
    return _single(weight * per_output), _single(bias * scale + shift)


def _single(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Floats:
    # What leaves float32 becomes infinite, and is refused with the other weights.
    with np.errstate(over="ignore", under="ignore"):
        return values.astype(np.float32)


def _fold_forward(drafts: Drafts) -> None:
    """Put every Affine that is left into the linear layer that alone reads it."""
    uses = drafts.uses()
    readers = {source: layer.name for layer in drafts.layers.values() for source in layer.inputs}

    def sole_reader(name: str) -> Draft | None:
        return drafts.layers[readers[name]] if uses[name] == 1 and name in readers else None

    for affine in reversed(list(drafts.layers.values())):
        if not isinstance(affine, Affine):
            continue
        first = reader = sole_reader(affine.name)
        while isinstance(reader, Flatten | Reshape):
            reader = sole_reader(reader.name)
        if first is None or reader is None or not _takes(reader, affine, drafts.parameters[affine.name][1]):
            continue
        groups = reader.groups if isinstance(reader, Conv2d) else 1
        folded = _before(drafts.parameters.pop(affine.name), drafts.parameters[reader.name], groups)
        drafts.parameters[reader.name] = folded
        source = affine.inputs[0]
        drafts.layers[first.name] = _reading(first, {affine.name: source})
        del drafts.layers[affine.name]
        readers[source] = first.name


def _takes(reader: Draft, affine: Affine, shift: Floats) -> bool:
    """Whether an affine map can go into the layer that reads it: padding would not be shifted."""
    if isinstance(reader, Conv2d):
        return reader.inputs == (affine.name,) and (not any(reader.padding) or not shift.any())
    return isinstance(reader, Linear)


def _before(affine: tuple[Floats, Floats], linear: tuple[Floats, Floats], groups: int) -> tuple[Floats, Floats]:
    """What a linear layer's parameters become if an affine map precedes it."""
    weight, bias = (values.astype(np.float64) for values in linear)
    outputs, per_group = weight.shape[:2]
    # A Linear that reads flattened channels has one column for each of a channel's positions.
    positions = per_group * groups // len(affine[0])
    scale, shift = (
        np.repeat(np.repeat(values, positions).reshape(groups, per_group), outputs // groups, axis=0)
        .reshape(outputs, per_group, *(1,) * (weight.ndim - 2))
        .astype(np.float64)
        for values in affine
    )
    moved = bias + (weight * shift).reshape(outputs, -1).sum(axis=1)
    return _single(weight * scale), _single(moved)


def _lower(drafts: Drafts, shapes: dict[str, Shape], unique: Callable[[str], str]) -> tuple[AnyLayer, ...]:
    """Put a depthwise 1x1 convolution in the place of every Affine that is still left."""
    layers: list[AnyLayer] = []
    for layer in drafts.layers.values():
        if isinstance(layer, Affine):
            layers += _depthwise(layer, drafts.parameters, shapes[layer.name], unique)
        elif not isinstance(layer, Pad):
            layers.append(layer)
    kept = {layer.name for layer in layers}
    drafts.parameters = {name: values for name, values in drafts.parameters.items() if name in kept}
    return tuple(layers)


def _depthwise(
    affine: Affine, parameters: Parameters, shape: Shape, unique: Callable[[str], str]
) -> Sequence[AnyLayer]:
    scale, shift = parameters.pop(affine.name)
    channels = len(scale)
    flat = len(shape) == 1
    name = unique(affine.name) if flat else affine.name
    parameters[name] = scale.reshape(-1, 1, 1, 1), shift
    convolution = Conv2d(name, affine.inputs, channels, kernel=(1, 1), groups=channels)
    if not flat:
        return (convolution,)
    column = Reshape(unique(affine.name), affine.inputs, (channels, 1, 1))
    return column, replace(convolution, inputs=(column.name,)), Flatten(affine.name, (name,))
