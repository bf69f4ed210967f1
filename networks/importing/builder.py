"""What both importers share: they say what a node does to its inputs, and a network comes of it.

Operators that only move values about (Reshape, Transpose, Flatten, ...) put down no layer. They make a `Value`: the
output of a layer, in another shape and order. The layer that reads it settles what is left of that: a Linear permutes
its columns, others get a Flatten or Reshape in front, or are refused.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import BadInput
from autoprivacy.networks.checkpoint import TrainedNetwork
from autoprivacy.networks.convolution import Floats, Ints
from autoprivacy.networks.graph import (
    INPUT,
    LARGEST_TENSOR,
    Add,
    AvgPool,
    Conv2d,
    Flatten,
    Linear,
    MaxPool,
    Network,
    Padding,
    Pair,
    ReLU,
    ReLU6,
    Reshape,
    Shape,
)
from autoprivacy.networks.importing.folding import Affine, Draft, Drafts, Pad, Parameters, simplify

NO_PADDING: Final = (0, 0, 0, 0)

_ORDERS: Final = ((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (1, 0, 2), (2, 1, 0))
"""All orders of three axes, the usual ones first: where sizes of 1 leave it open, they are meant."""

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Imported:
    """A network that was read from elsewhere, and what was left out of it that its user should know."""

    trained: TrainedNetwork
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A tensor of the foreign graph: the output of `layer` in the shape that one image has there.

    Its i-th value, counted in C order, is the layer's `order[i]`-th; without `order`, they are in the layer's order.
    """

    layer: str
    shape: Shape
    order: Ints | None = None


def move(value: Value, change: Callable[[Ints], Array], images: int = 1) -> Value:
    """`value` after an operation that only moves values about.

    Args:
        value: what it is applied to.
        change: does the operation to an array (images, *shape).
        images: how many the foreign graph takes at once.

    Raises:
        BadInput: if it does not treat every image in the same way.
    """
    size = prod(value.shape)
    if images * size > LARGEST_TENSOR:
        raise BadInput(f"{images} images of {size} values are too many; export it for one image at a time")
    moved = change(np.arange(images * size).reshape(images, *value.shape))
    order = moved.reshape(moved.shape[0] if moved.ndim else 1, -1)
    if len(order) != images or not np.array_equal(order, order[0] + size * np.arange(images)[:, None]):
        raise BadInput(
            f"it takes {images} x {value.shape} to {moved.shape}, which mixes images; the first axis must stay theirs"
        )
    source = order[0] if value.order is None else value.order[order[0]]
    in_order = np.array_equal(source, np.arange(size))
    return Value(value.layer, moved.shape[1:], None if in_order else source)


def reshape(value: Value, shape: Shape) -> Value:
    """The same values in the same order in another shape.

    Raises:
        BadInput: if that has room for more or fewer values.
    """
    if prod(shape) != prod(value.shape):
        raise BadInput(f"{value.shape} cannot be seen as {shape}")
    return replace(value, shape=shape)


def ceiled(size: Sequence[int], kernel: Pair, stride: Pair, padding: Padding) -> Padding:
    """`padding` with as much more below and to the right that windows which do not quite fit count (ceil_mode)."""
    more = []
    for axis in (0, 1):
        begin, end = padding[axis], padding[axis + 2]
        room = size[axis] + begin + end - kernel[axis]
        steps = -(-room // stride[axis])
        if steps * stride[axis] >= size[axis] + begin:  # a window that starts in the padding does not count
            steps -= 1
        more.append(max(0, steps * stride[axis] - room))
    return padding[0], padding[1], padding[2] + more[0], padding[3] + more[1]


class NetworkBuilder:
    """Puts down layers one after the other, and in the end makes a network of them.

    Every method but `finish` returns the value that the foreign node has, and refuses with `BadInput` what no layer
    here computes. Names may be any text; layers get valid ones like them.
    """

    def __init__(self, input_shape: tuple[int, int, int]) -> None:
        self.notes: list[str] = []
        self._layers: dict[str, Draft] = {}
        self._parameters: Parameters = {}
        self._shapes: dict[str, Shape] = {}
        self._reshaped: dict[tuple[str, Shape], str] = {}
        self._named = {INPUT: 1}
        self._input_shape = input_shape
        self.input: Final = Value(INPUT, input_shape)
        self._add_shape(INPUT, input_shape)

    def convolve(
        self,
        name: str,
        value: Value,
        weight: Floats,
        bias: Floats | None,
        *,
        stride: Pair = (1, 1),
        padding: Padding = NO_PADDING,
        groups: int = 1,
    ) -> Value:
        """A convolution with weight (M, C / groups, kh, kw) and bias (M,)."""
        if weight.ndim != 4 or len(value.shape) != 3:
            raise BadInput(
                f"a weight of shape {weight.shape} on a tensor of shape {value.shape} per image; only 2D convolutions "
                "of (C, H, W) are supported"
            )
        out_channels, per_group, height, width = weight.shape
        if groups < 1 or value.shape[0] != per_group * groups or out_channels % groups or not weight.size:
            raise BadInput(f"a weight of shape {weight.shape} in {groups} groups does not fit {value.shape}")
        layer = Conv2d(
            self._name(name), (self._layer(value),), out_channels, (height, width), stride, padding, groups=groups
        )
        out = (out_channels, *_windows(value.shape, layer.kernel, stride, padding))
        self._parameters[layer.name] = weight, _bias(bias, out_channels)
        return self._put(layer, out)

    def connect(self, name: str, value: Value, weight: Floats, bias: Floats | None) -> Value:
        """A fully connected layer with weight (M, F) and bias (M,)."""
        features = value.shape[-1] if value.shape else 0
        if prod(value.shape) != features:
            raise BadInput(
                f"a matrix product along the last axis of {value.shape}; only flat tensors are supported: put a "
                "Flatten before it"
            )
        if weight.ndim != 2 or weight.shape[1] != features or not weight.size:
            raise BadInput(f"a weight of shape {weight.shape} does not fit {features} features")
        if value.order is not None:
            columns = np.empty_like(weight)
            columns[:, value.order] = weight
            weight = columns
        flat = Value(value.layer, (features,))
        layer = Linear(self._name(name), (self._layer(flat),), len(weight))
        self._parameters[layer.name] = weight, _bias(bias, len(weight))
        return reshape(self._put(layer, (len(weight),)), (*value.shape[:-1], len(weight)))

    def affine(self, name: str, value: Value, scale: Array | float, shift: Array | float) -> Value:
        """The sum scale · value + shift, for constants that numpy would broadcast to the value's shape."""
        scales, shifts = (self._spread(constant, value) for constant in (scale, shift))
        if not (np.isfinite(scales).all() and np.isfinite(shifts).all()):
            raise BadInput("it scales or shifts by values that are not finite in float32; train again")
        if (scales == 1).all() and not shifts.any():
            return value
        layer = value.layer
        if (scales == scales[:, :1]).all() and (shifts == shifts[:, :1]).all():
            scales, shifts = scales[:, :1], shifts[:, :1]
        else:
            layer = self._layer(Value(layer, (scales.size,)))
        affine = Affine(self._name(name), (layer,))
        self._parameters[affine.name] = scales.reshape(-1), shifts.reshape(-1)
        return self._seen_as(value, self._put(affine, self._shapes[layer]))

    def normalise(self, name: str, value: Value, statistics: Sequence[Array], epsilon: float) -> Value:
        """Batch normalisation by `statistics`: scale, shift, mean and variance of every channel."""
        channels = value.shape[:1]
        if any(values.shape != channels for values in statistics):
            raise BadInput(f"its parameters have the shapes {[v.shape for v in statistics]}; {channels} is needed")
        scale, shift, mean, variance = (values.astype(np.float64) for values in statistics)
        with np.errstate(all="ignore"):
            scale = scale / np.sqrt(variance + epsilon)
            shift = shift - mean * scale
        per_channel = (-1, *(1,) * (len(value.shape) - 1))
        return self.affine(name, value, scale.reshape(per_channel), shift.reshape(per_channel))

    def clip(self, name: str, value: Value, low: float | None, high: float | None) -> Value:
        """Values below `low` and above `high` cut off; only a ReLU and a ReLU6 do that."""
        before = self._layers.get(value.layer)
        unbounded = high is None or high == np.inf
        if isinstance(before, ReLU | ReLU6) and (low is None or low <= 0):
            low = 0
        if low != 0 or not (unbounded or high == 6):
            raise BadInput(f"it clips to {low}..{high}; only 0.. (ReLU) and 0..6 (ReLU6) are supported")
        if isinstance(before, ReLU6) or (isinstance(before, ReLU) and unbounded):
            return value
        source = before.inputs[0] if isinstance(before, ReLU) else value.layer
        kind = ReLU if unbounded else ReLU6
        return self._seen_as(value, self._put(kind(self._name(name), (source,)), self._shapes[value.layer]))

    def pool(
        self,
        kind: type[MaxPool] | type[AvgPool],
        name: str,
        value: Value,
        kernel: Pair,
        stride: Pair,
        padding: Padding = NO_PADDING,
    ) -> Value:
        """The greatest value or the mean of each window; padding counts as zeros in a mean, and never wins."""
        if len(value.shape) != 3:
            raise BadInput(f"it pools a tensor of shape {value.shape} per image; only 2D pools of (C, H, W)")
        out = (value.shape[0], *_windows(value.shape, kernel, stride, padding))
        return self._put(kind(self._name(name), (self._layer(value),), kernel, stride, padding), out)

    def pool_all(self, kind: type[MaxPool] | type[AvgPool], name: str, value: Value) -> Value:
        """One window over the whole height and width: (C, 1, 1)."""
        if len(value.shape) != 3:
            raise BadInput(f"it pools a tensor of shape {value.shape} per image; only 2D pools of (C, H, W)")
        size = (value.shape[1], value.shape[2])
        return self.pool(kind, name, value, size, size)

    def mean(self, name: str, value: Value, axes: Sequence[int]) -> Value:
        """The mean along `axes` (0 is the first after the image's), which stay, of size 1."""
        image, layer_axes = self._image(value)
        along = {layer_axes[axis] for axis in axes if value.shape[axis] > 1}
        if 0 in along:
            raise BadInput("it takes a mean over channels; only one over the height and the width is supported")
        _, height, width = image.shape
        kernel = (height if 1 in along else 1, width if 2 in along else 1)
        return _transpose(self.pool(AvgPool, name, image, kernel, kernel), layer_axes)

    def pad(self, name: str, value: Value, before: Sequence[int], after: Sequence[int]) -> Value:
        """Zeros around a value, so many before and after it along each of its axes."""
        image, layer_axes = self._image(value)
        pads = dict(zip(layer_axes, zip(before, after, strict=True), strict=True))
        if pads[0] != (0, 0) or min(*before, *after) < 0:
            raise BadInput(f"it pads by {tuple(before)} and {tuple(after)}; only the height and width can be padded")
        channels, height, width = image.shape
        padding = (pads[1][0], pads[2][0], pads[1][1], pads[2][1])
        shape = (channels, height + sum(pads[1]), width + sum(pads[2]))
        return _transpose(self._put(Pad(self._name(name), (image.layer,), padding), shape), layer_axes)

    def add(self, name: str, values: Sequence[Value]) -> Value:
        """The sum of tensors of one shape."""
        first = values[0]
        if any(value.shape != first.shape for value in values):
            raise BadInput(f"it combines tensors of the shapes {[v.shape for v in values]}; they must be equal")
        alike = all(
            self._shapes[value.layer] == self._shapes[first.layer] and _same_order(value, first) for value in values
        )
        if alike:
            sources = tuple(value.layer for value in values)
        else:
            shape = first.shape if len(first.shape) == 3 else (prod(first.shape),)
            sources = tuple(self._layer(replace(value, shape=shape)) for value in values)
        added = self._put(Add(self._name(name), sources), self._shapes[sources[0]])
        return self._seen_as(first, added) if alike else reshape(added, first.shape)

    def drop_softmax(self, name: str, value: Value, first_axis: int, last_axis: int, *, ends: bool) -> Value:
        """A softmax along these axes, which is left to whoever reads the logits, if it `ends` the network."""
        if not ends:
            raise BadInput("a softmax is supported only at the end, where it is left out")
        if prod(value.shape[first_axis : last_axis + 1]) != prod(value.shape):
            raise BadInput(f"its softmax is not one over all logits, of shape {value.shape} per image")
        self.notes.append(f"the softmax {name!r} at the end is left out: the network gives logits")
        return value

    def finish(self, name: str, value: Value, *, channels_last: bool = False) -> Imported:
        """The network that gives `value`, called `name`."""
        if prod(value.shape) != max(value.shape, default=0):
            raise BadInput(f"the network gives {value.shape} per image; a flat tensor of logits is needed")
        output = self._layer(replace(value, shape=(prod(value.shape),)))
        drafts = Drafts(self._layers, self._parameters, output)
        layers = simplify(drafts, self._shapes, self._name)
        network = Network(_valid(name), self._input_shape, layers, channels_last=channels_last)
        weights: dict[str, Floats] = {}
        for layer, (weight, bias) in drafts.parameters.items():
            weights |= {f"{layer}.weight": weight, f"{layer}.bias": bias}
        return Imported(TrainedNetwork(network, weights), tuple(self.notes))

    def _name(self, wanted: str) -> str:
        """A name like `wanted` that no layer has."""
        valid = name = _valid(wanted)
        while name in self._named:
            self._named[valid] += 1
            name = f"{valid}_{self._named[valid]}"
        self._named[name] = 1
        return name

    def _add_shape(self, name: str, shape: Shape) -> None:
        if prod(shape) > LARGEST_TENSOR or min(shape) < 1:
            raise BadInput(f"a tensor of shape {shape} per image; it may have 1 to {LARGEST_TENSOR} values")
        self._shapes[name] = shape

    def _put(self, layer: Draft, shape: Shape) -> Value:
        self._add_shape(layer.name, shape)
        self._layers[layer.name] = layer
        return Value(layer.name, shape)

    def _seen_as(self, value: Value, computed: Value) -> Value:
        """What was computed from each element of a value's layer, in that value's shape and order."""
        return replace(value, layer=computed.layer)

    def _layer(self, value: Value) -> str:
        """The layer that has exactly this value, in the value's shape, as its output."""
        if value.order is not None:
            raise BadInput(
                f"a transposition between it and {value.layer!r} is in its way; one is supported only at the input "
                "(NHWC to NCHW), or where a fully connected layer follows"
            )
        if value.shape == self._shapes[value.layer]:
            return value.layer
        key = value.layer, value.shape
        if key not in self._reshaped:
            source = (value.layer,)
            name = self._name(f"{value.layer}_flat" if len(value.shape) == 1 else f"{value.layer}_reshaped")
            flat = len(value.shape) == 1
            self._put(Flatten(name, source) if flat else Reshape(name, source, value.shape), value.shape)
            self._reshaped[key] = name
        return self._reshaped[key]

    def _image(self, value: Value) -> tuple[Value, tuple[int, int, int]]:
        """The (C, H, W) that a value shows, perhaps transposed, and which of its axes each axis of the value is."""
        shape = self._shapes[value.layer]
        if len(value.shape) == 3 and len(shape) == 3:
            image = Value(value.layer, shape)
            for axes in _ORDERS:
                seen = _transpose(image, axes)
                if seen.shape == value.shape and _same_order(seen, value):
                    return image, axes
        if len(value.shape) == 3 and value.order is None:
            return Value(self._layer(value), value.shape), (0, 1, 2)
        raise BadInput(f"it works along axes of {value.shape}, which is no longer the (C, H, W) of {value.layer!r}")

    def _spread(self, constant: Array | float, value: Value) -> Floats:
        """A constant for every element of a value's layer: (C, H·W) of them, or (F, 1)."""
        with np.errstate(over="ignore", under="ignore"):
            given = np.asarray(constant).astype(np.float32)
        if given.ndim == len(value.shape) + 1 and len(given) == 1:
            given = given[0]
        try:
            spread = np.broadcast_to(given, value.shape).reshape(-1)
        except ValueError:
            raise BadInput(f"a constant of shape {given.shape} does not fit {value.shape} per image") from None
        if value.order is not None:
            in_order = np.empty_like(spread)
            in_order[value.order] = spread
            spread = in_order
        return spread.reshape(self._shapes[value.layer][0], -1)


def _transpose(image: Value, axes: tuple[int, int, int]) -> Value:
    return move(image, lambda positions: positions.transpose(0, *(axis + 1 for axis in axes)))


def _same_order(one: Value, other: Value) -> bool:
    if one.order is None or other.order is None:
        return one.order is other.order
    return np.array_equal(one.order, other.order)


def _bias(given: Floats | None, outputs: int) -> Floats:
    if given is None:
        return np.zeros(outputs, dtype=np.float32)
    if given.shape != (outputs,):
        raise BadInput(f"a bias of shape {given.shape} does not fit {outputs} outputs")
    return given


def _windows(shape: Shape, kernel: Pair, stride: Pair, padding: Padding) -> Pair:
    """How many windows fit; what a layer's own rules refuse besides, it refuses in the end."""
    if min(*kernel, *stride) < 1 or min(padding) < 0:
        raise BadInput(f"kernel {kernel} and stride {stride} must be positive, padding {padding} not negative")
    top, left, bottom, right = padding
    room = (shape[1] + top + bottom - kernel[0], shape[2] + left + right - kernel[1])
    if min(room) < 0:
        raise BadInput(f"kernel {kernel} is larger than its padded input {shape}")
    return room[0] // stride[0] + 1, room[1] // stride[1] + 1


def _valid(name: str) -> str:
    """A name of letters, digits, points, dashes and underscores, of a reasonable length."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-")[:80] or "layer"
