"""What each ONNX operator does, in the terms of a `NetworkBuilder`: to support one more, add it to `OPERATORS`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from autoprivacy.common.errors import BadInput
from autoprivacy.networks.convolution import Floats
from autoprivacy.networks.graph import AvgPool, MaxPool, Padding, Pair
from autoprivacy.networks.importing.builder import NO_PADDING, Array, NetworkBuilder, Value, ceiled, move, reshape
from autoprivacy.networks.importing.onnx_constants import Evaluator, refusing_damage

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One node, with what is known of its inputs; ONNX's checker has seen its attributes.

    `name` is the one for its layer, `images` how many the graph takes at once, and `ends` says whether only operators
    that keep all values lie between it and the output.
    """

    proto: "onnx.NodeProto"
    name: str
    inputs: tuple[Value | Array | None, ...]
    opset: int
    images: int
    evaluator: Evaluator
    ends: bool

    def integers(self, attribute: str, default: Sequence[int] = ()) -> tuple[int, ...]:
        """An attribute that is a list of integers."""
        found = self._attribute(attribute)
        return tuple(default) if found is None else tuple(found.ints)

    def integer(self, attribute: str, default: int) -> int:
        """An attribute that is an integer."""
        found = self._attribute(attribute)
        return default if found is None else int(found.i)

    def number(self, attribute: str, default: float) -> float:
        """An attribute that is a float."""
        found = self._attribute(attribute)
        return default if found is None else float(found.f)

    def text(self, attribute: str, default: str) -> str:
        """An attribute that is a string."""
        found = self._attribute(attribute)
        return default if found is None else found.s.decode(errors="replace")

    def value(self, index: int = 0) -> Value:
        """An input that depends on the image."""
        found = self.inputs[index]
        if not isinstance(found, Value):
            raise BadInput(f"its input {index} ({self.proto.input[index]!r}) is constant, which is not supported")
        return found

    def given(self, index: int) -> bool:
        """Whether the optional input is there."""
        return len(self.inputs) > index and self.inputs[index] is not None

    def constant(self, index: int) -> Array:
        """An input that does not depend on the image."""
        found = self.inputs[index] if len(self.inputs) > index else None
        if found is None or isinstance(found, Value):
            raise BadInput(f"its input {index} is missing or depends on the image; it must be constant")
        return found

    def floats(self, index: int) -> Floats:
        """A constant input in float32."""
        with refusing_damage(), np.errstate(over="ignore", under="ignore"):
            found = self.constant(index).astype(np.float32)
        if not np.isfinite(found).all():
            raise BadInput(f"initializer {self.proto.input[index]!r} holds values that are not finite; train again")
        return found

    def _attribute(self, name: str) -> "onnx.AttributeProto | None":
        return next((attribute for attribute in self.proto.attribute if attribute.name == name), None)

    def axes(self, axes: Sequence[int]) -> list[int]:
        """Axes of the first input as axes of one image, for any but the images' own."""
        rank = len(self.value().shape) + 1
        found = [axis + rank if axis < 0 else axis for axis in axes]
        if any(not 1 <= axis < rank for axis in found):
            raise BadInput(
                f"its axes {list(axes)} are not all axes of one image: {rank} axes, of which 0 is the images'"
            )
        return [axis - 1 for axis in found]


def _scalar(values: Array) -> float:
    if values.size != 1:
        raise BadInput(f"one number is needed where it has an array of shape {values.shape}")
    return float(values.reshape(()))


def _integers(values: Array) -> list[int]:
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise BadInput(f"a list of integers is needed where it has an array of shape {values.shape}")
    return [int(value) for value in values]


def _pair(values: Sequence[int], what: str) -> Pair:
    if len(values) != 2:
        raise BadInput(f"{what} {list(values)} is that of {len(values)} dimensions; only 2D is supported")
    return values[0], values[1]


def _image_size(value: Value) -> Pair:
    if len(value.shape) != 3:
        raise BadInput(
            f"it slides over a tensor of shape {value.shape} per image; only 2D, over (C, H, W), is supported"
        )
    return value.shape[1], value.shape[2]


def _windows(node: Node, kernel: Pair) -> tuple[Pair, Padding]:
    """The stride and the padding of a convolution or pool, as its attributes give them."""
    size = _image_size(node.value())
    if any(step != 1 for step in node.integers("dilations", (1, 1))):
        raise BadInput(f"dilations {list(node.integers('dilations'))} are not supported; only 1")
    stride = _pair(node.integers("strides", (1, 1)), "strides")
    if min(*kernel, *stride) < 1:
        raise BadInput(f"kernel {kernel} and strides {stride} must be positive")
    match node.text("auto_pad", "NOTSET"):
        case "NOTSET":
            pads = node.integers("pads", NO_PADDING)
            if len(pads) != 4:
                raise BadInput(f"pads {list(pads)} are not those of two dimensions; only 2D is supported")
            return stride, (pads[0], pads[1], pads[2], pads[3])
        case "VALID":
            return stride, NO_PADDING
        case "SAME_UPPER" | "SAME_LOWER" as where:
            halves = [_same(*each, upper=where == "SAME_UPPER") for each in zip(size, kernel, stride, strict=True)]
            return stride, (halves[0][0], halves[1][0], halves[0][1], halves[1][1])
        case other:
            raise BadInput(f"auto_pad {other!r} is not supported; use pads")


def _same(size: int, kernel: int, stride: int, *, upper: bool) -> Pair:
    """The padding before and after with which ceil(size / stride) windows fit; the odd one goes after if `upper`."""
    missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    less, more = missing // 2, missing - missing // 2
    return (less, more) if upper else (more, less)


def _conv(node: Node, to: NetworkBuilder) -> Value:
    weight = node.floats(1)
    if weight.ndim != 4:
        raise BadInput(f"it is a convolution over {weight.ndim - 2} dimensions; only 2D is supported")
    kernel = _pair(weight.shape[2:], "kernel")
    if tuple(node.integers("kernel_shape", kernel)) != kernel:
        raise BadInput(f"kernel_shape {list(node.integers('kernel_shape'))} is not that of its weight, {kernel}")
    stride, padding = _windows(node, kernel)
    bias = node.floats(2) if node.given(2) else None
    groups = node.integer("group", 1)
    return to.convolve(node.name, node.value(), weight, bias, stride=stride, padding=padding, groups=groups)


def _gemm(node: Node, to: NetworkBuilder) -> Value:
    value, weight = node.value(), node.floats(1)
    if node.integer("transA", 0) or len(value.shape) != 1 or weight.ndim != 2:
        raise BadInput("only a flat tensor times a matrix is supported, without transA")
    weight = node.number("alpha", 1.0) * (weight if node.integer("transB", 0) else weight.T)
    bias = None
    if node.given(2):
        bias = node.number("beta", 1.0) * node.floats(2)
        if bias.ndim > 2 or (bias.ndim == 2 and len(bias) != 1) or bias.shape[-1:] not in {(), (1,), (len(weight),)}:
            raise BadInput(f"a bias of shape {bias.shape} does not fit {len(weight)} outputs of every image")
        bias = np.broadcast_to(bias.astype(np.float32), (1, len(weight)))[0]
    return to.connect(node.name, value, weight.astype(np.float32), bias)


def _matmul(node: Node, to: NetworkBuilder) -> Value:
    if not isinstance(node.inputs[0], Value) or isinstance(node.inputs[1], Value):
        raise BadInput("only a tensor times a constant matrix is supported, in this order")
    weight = node.floats(1)
    if weight.ndim != 2:
        raise BadInput(f"its weight has the shape {weight.shape}; a matrix is needed")
    return to.connect(node.name, node.value(), weight.T, None)


def _batch_normalization(node: Node, to: NetworkBuilder) -> Value:
    if node.integer("training_mode", 0) or any(node.proto.output[1:]):
        raise BadInput("it was exported in training mode; export it for inference")
    if not node.integer("spatial", 1):
        raise BadInput("spatial=0 is not supported; only statistics per channel")
    return to.normalise(
        node.name, node.value(), [node.floats(index) for index in range(1, 5)], node.number("epsilon", 1e-5)
    )


def _relu(node: Node, to: NetworkBuilder) -> Value:
    return to.clip(node.name, node.value(), 0, None)


def _clip(node: Node, to: NetworkBuilder) -> Value:
    if node.opset < 11:
        lowest, greatest = float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)
        least, most = node.number("min", lowest), node.number("max", greatest)
        return to.clip(node.name, node.value(), least, None if most >= greatest else most)
    low, high = (_scalar(node.constant(index)) if node.given(index) else None for index in (1, 2))
    return to.clip(node.name, node.value(), low, high)


def _add(node: Node, to: NetworkBuilder) -> Value:
    values = [given for given in node.inputs if isinstance(given, Value)]
    value = to.add(node.name, values) if len(values) > 1 else values[0]
    for index, given in enumerate(node.inputs):
        if not isinstance(given, Value):
            value = to.affine(node.name, value, 1, node.floats(index))
    return value


def _sub(node: Node, to: NetworkBuilder) -> Value:
    first, second = node.inputs
    if isinstance(first, Value) and isinstance(second, Value):
        return to.add(node.name, [first, to.affine(node.name, second, -1, 0)])
    if isinstance(first, Value):
        return to.affine(node.name, first, 1, -node.floats(1))
    return to.affine(node.name, node.value(1), -1, node.floats(0))


def _mul(node: Node, to: NetworkBuilder) -> Value:
    index = 0 if isinstance(node.inputs[0], Value) else 1
    return to.affine(node.name, node.value(index), node.floats(1 - index), 0)


def _div(node: Node, to: NetworkBuilder) -> Value:
    value = node.value(0)
    with np.errstate(all="ignore"):
        return to.affine(node.name, value, 1 / node.floats(1).astype(np.float64), 0)


def _max_pool(node: Node, to: NetworkBuilder) -> Value:
    kernel = _pair(node.integers("kernel_shape"), "kernel_shape")
    stride, padding = _windows(node, kernel)
    if node.integer("ceil_mode", 0):
        padding = ceiled(_image_size(node.value()), kernel, stride, padding)
    return to.pool(MaxPool, node.name, node.value(), kernel, stride, padding)


def _average_pool(node: Node, to: NetworkBuilder) -> Value:
    kernel = _pair(node.integers("kernel_shape"), "kernel_shape")
    stride, padding = _windows(node, kernel)
    if node.integer("ceil_mode", 0) and ceiled(_image_size(node.value()), kernel, stride, padding) != padding:
        raise BadInput("ceil_mode makes windows reach beyond the input, whose means are not supported; pad the input")
    if any(padding) and not node.integer("count_include_pad", 0):
        raise BadInput(f"padding {padding} that means leave out is not supported; export with count_include_pad=1")
    return to.pool(AvgPool, node.name, node.value(), kernel, stride, padding)


def _global_average_pool(node: Node, to: NetworkBuilder) -> Value:
    return to.pool_all(AvgPool, node.name, node.value())


def _global_max_pool(node: Node, to: NetworkBuilder) -> Value:
    return to.pool_all(MaxPool, node.name, node.value())


def _reduce_mean(node: Node, to: NetworkBuilder) -> Value:
    value = node.value()
    given = _integers(node.constant(1)) if node.given(1) else node.integers("axes")
    if not given:
        if node.integer("noop_with_empty_axes", 0):
            return value
        raise BadInput("it takes the mean of everything; only one over the height and the width is supported")
    axes = node.axes(given)
    found = to.mean(node.name, value, axes)
    if node.integer("keepdims", 1):
        return found
    return reshape(found, tuple(size for axis, size in enumerate(found.shape) if axis not in axes))


def _pad(node: Node, to: NetworkBuilder) -> Value:
    value = node.value()
    rank = len(value.shape) + 1
    old = node.opset < 11
    pads = list(node.integers("pads")) if old else _integers(node.constant(1))
    filler = node.number("value", 0.0) if old else _scalar(node.constant(2)) if node.given(2) else 0.0
    if node.text("mode", "constant") != "constant" or filler != 0:
        raise BadInput("only padding with zeros is supported")
    axes = _integers(node.constant(3)) if node.given(3) else range(rank)
    if len(pads) != 2 * len(axes):
        raise BadInput(f"it has {len(pads)} pads for {len(axes)} axes")
    before, after = [0] * rank, [0] * rank
    for place, axis in enumerate(axes):
        if not -rank <= axis < rank:
            raise BadInput(f"it pads axis {axis} of {rank}")
        before[axis], after[axis] = pads[place], pads[place + len(axes)]
    if not any(before) and not any(after):
        return value
    if before[0] or after[0]:
        raise BadInput("it pads the axis of the images")
    return to.pad(node.name, value, before[1:], after[1:])


def _moved(node: Node, _: NetworkBuilder) -> Value:
    """Done by ONNX's own definition of the operator, to the places of the values."""
    others = [node.constant(index) for index in range(1, len(node.inputs))]
    return move(node.value(), lambda places: node.evaluator.apply(node.proto, [places, *others])[0], node.images)


def _same_value(node: Node, _: NetworkBuilder) -> Value:
    return node.value()


def _dropout(node: Node, _: NetworkBuilder) -> Value:
    if node.given(2) and _scalar(node.constant(2)):
        raise BadInput("it was exported in training mode; export it for inference")
    return node.value()


def _cast(node: Node, _: NetworkBuilder) -> Value:
    if not is_float(node.integer("to", 0)):
        raise BadInput("it casts to a type other than float")
    return node.value()


def is_float(kind: int) -> bool:
    """Whether tensors of this ONNX type hold floats, which all become float32 here."""
    from onnx import TensorProto

    return kind in {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}


def _softmax(node: Node, to: NetworkBuilder) -> Value:
    value = node.value()
    axis = node.axes([node.integer("axis", -1 if node.opset >= 13 else 1)])[0]
    # Until opset 13, it was one over all axes from this one on.
    last_axis = axis if node.opset >= 13 else len(value.shape) - 1
    return to.drop_softmax(node.name, value, axis, last_axis, ends=node.ends)


def _shape(node: Node, _: NetworkBuilder) -> Array:
    sizes = (node.images, *node.value().shape)
    return np.array(sizes[node.integer("start", 0) : node.integer("end", len(sizes))], dtype=np.int64)


def _size(node: Node, _: NetworkBuilder) -> Array:
    return np.array(node.images * prod(node.value().shape), dtype=np.int64)


Handler: TypeAlias = Callable[[Node, NetworkBuilder], Value | Array]

OPERATORS: Final[dict[str, Handler]] = {
    "Add": _add,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Clip": _clip,
    "Conv": _conv,
    "Div": _div,
    "Dropout": _dropout,
    "Flatten": _moved,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "Identity": _same_value,
    "LogSoftmax": _softmax,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mul": _mul,
    "Pad": _pad,
    "ReduceMean": _reduce_mean,
    "Relu": _relu,
    "Reshape": _moved,
    "Shape": _shape,
    "Size": _size,
    "Softmax": _softmax,
    "Squeeze": _moved,
    "Sub": _sub,
    "Sum": _add,
    "Transpose": _moved,
    "Unsqueeze": _moved,
}
"""What is done with a node whose first input depends on the image, by its operator."""

KEEPING_VALUES: Final = frozenset(
    operator for operator in OPERATORS if OPERATORS[operator] in {_moved, _same_value, _cast, _dropout}
)
"""The operators whose output holds the values of their first input."""

SHAPE_OF: Final = frozenset({"Shape", "Size"})
"""The operators that tell something of a tensor that is the same for every image."""
