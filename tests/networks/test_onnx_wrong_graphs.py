"""Graphs that no layers here compute, or that are none at all: each is refused, with the reason."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.networks.onnx_files import FC, FLAT, Arrays, floats, ints, model, node, refusal

CONV = node("Conv", "x k", "a", pads=[1, 1, 1, 1])
KERNEL: Arrays = {"k": floats(4, 2, 3, 3)}
NORM: Arrays = {"s": floats(2), "t": floats(2), "m": floats(2), "v": np.abs(floats(2))}
IMAGE = (2, 2, 4, 5)
INSIDE = helper.make_graph([], "inside", [], [])


def gemm(**attributes: Any) -> onnx.NodeProto:
    return node("Gemm", "x w b", "y", **attributes)


def padded(pads: list[int], **attributes: Any) -> list[onnx.NodeProto]:
    return [node("Pad", "x", "p", pads=pads, **attributes), node("Conv", "p k", "a"), *FLAT]


def pooled(kind: str, **attributes: Any) -> list[onnx.NodeProto]:
    return [node(kind, "x", "a", **{"kernel_shape": [2, 2], **attributes}), *FLAT]


def convolved(**attributes: Any) -> list[onnx.NodeProto]:
    return [node("Conv", "x k", "a", **attributes), *FLAT]


Nodes = list[onnx.NodeProto]
Shape = tuple[int | str, ...]

OTHERS: dict[str, tuple[Nodes, Shape, Arrays, int, str]] = {
    "unknown operator": ([node("Sigmoid", "x", "a"), *FLAT], IMAGE, {}, 13, "not supported: Sigmoid ('the_a')"),
    "no operator at all": ([node("Frobnicate", "x", "a"), *FLAT], IMAGE, {}, 13, "Frobnicate"),
    "without a name": ([helper.make_node("Tanh", ["x"], ["y"])], IMAGE, {}, 13, "Tanh (node 0, output 'y')"),
    "another domain": ([node("Gelu", "x", "y", domain="com.microsoft")], IMAGE, {}, 13, "com.microsoft.Gelu"),
    "a network inside": ([node("If", "x", "y", then_branch=INSIDE)], IMAGE, {}, 13, "If"),
    "transposed convolution": ([node("ConvTranspose", "x k", "a"), *FLAT], IMAGE, KERNEL, 13, "ConvTranspose"),
    "unknown operator on constants": (
        [node("Erf", "k", "e"), node("Conv", "x e", "a"), *FLAT], IMAGE, KERNEL, 13, "Erf"
    ),
    "opset 6": ([gemm()], (1, 18), FC, 6, "opset 6; export it with one of 7 to 25"),
    "opset 99": ([gemm()], (1, 18), FC, 99, "opset 99"),
    "height unknown": (convolved(), ("n", 2, "h", 5), KERNEL, 13, "the shape (n, 2, h, 5)"),
    "height 0": (convolved(), (1, 2, 0, 5), KERNEL, 13, "C to W fixed"),
    "height negative": (convolved(), (1, 2, -4, 5), KERNEL, 13, "C to W fixed"),
    "five axes": ([node("Flatten", "x", "y")], (1, 2, 3, 4, 5), {}, 13, "the shape (1, 2, 3, 4, 5)"),
    "one axis": ([node("Relu", "x", "y")], (5,), {}, 13, "the shape (5)"),
    "huge images": (convolved(), (1, 2, 1 << 40, 5), KERNEL, 13, "1 to 67108864 values"),
    "huge batch": ([node("Flatten", "x", "f"), node("Relu", "f", "y")], (1 << 60, 2, 3, 4), {}, 13, "too many"),
    "reads itself": ([node("Add", "x a", "a"), *FLAT], IMAGE, {}, 13, "'a' is neither an initializer nor"),
    "a cycle": ([node("Add", "x b", "a"), node("Relu", "a", "b"), *FLAT], IMAGE, {}, 13, "'b' is neither"),
    "out of order": ([*FLAT, node("Relu", "x", "a")], IMAGE, {}, 13, "'a' is neither"),
    "missing initializer": (convolved(), IMAGE, {}, 13, "'k' is neither an initializer nor"),
    "written twice": ([node("Relu", "x", "a"), node("Neg", "x", "a"), *FLAT], IMAGE, {}, 13, "written by two nodes"),
    "second output": ([node("Dropout", "x", "d m"), node("Flatten", "m", "y")], IMAGE, {}, 13, "'m' is neither"),
    "output not there": ([node("Relu", "x", "z")], IMAGE, {}, 13, "inputs"),
    "output constant": ([node("Identity", "k", "y")], IMAGE, KERNEL, 13, "inputs"),
    "output no logits": ([CONV, node("Relu", "a", "y")], IMAGE, KERNEL, 13, "a flat tensor of logits is needed"),
    "too few inputs": ([node("Conv", "x", "y")], IMAGE, {}, 13, "Conv ('the_y')"),
    "too many inputs": ([node("Relu", "x k", "y")], IMAGE, KERNEL, 13, "Relu ('the_y')"),
    "unknown attribute": ([node("Relu", "x", "a", slope=1.0), *FLAT], IMAGE, {}, 13, "slope"),
    "attribute of another type": (convolved(strides=1.0), IMAGE, KERNEL, 13, "strides"),
    "stride 0": (convolved(strides=[0, 1]), IMAGE, KERNEL, 13, "must be positive"),
    "stride negative": (convolved(strides=[1, -1]), IMAGE, KERNEL, 13, "must be positive"),
    "one stride": (convolved(strides=[1]), IMAGE, KERNEL, 13, "only 2D"),
    "padding negative": (convolved(pads=[0, -1, 0, 0]), IMAGE, KERNEL, 13, "not negative"),
    "padding huge": (convolved(pads=[0, 1 << 62, 0, 0]), IMAGE, KERNEL, 13, "values"),
    "two pads": (convolved(pads=[1, 1]), IMAGE, KERNEL, 13, "only 2D"),
    "unknown auto_pad": (convolved(auto_pad="SOME"), IMAGE, KERNEL, 13, "'SOME'"),
    "dilated": (convolved(dilations=[2, 1]), IMAGE, KERNEL, 13, "dilations [2, 1]"),
    "kernel_shape of another": (convolved(kernel_shape=[1, 1]), IMAGE, KERNEL, 13, "not that of its weight"),
    "no groups": (convolved(group=0), IMAGE, KERNEL, 13, "0 groups"),
    "groups that do not fit": (convolved(group=3), IMAGE, KERNEL, 13, "3 groups"),
    "larger than its input": (convolved(), (1, 2, 2, 5), KERNEL, 13, "larger than its padded input"),
    "1D convolution": ([node("Conv", "x k", "y")], (1, 2, 5), {"k": floats(4, 2, 3)}, 13, "1 dimensions"),
    "kernel of no values": (convolved(), IMAGE, {"k": floats(0, 2, 3, 3)}, 13, "does not fit"),
    "kernel from the image": ([node("Conv", "x x", "a"), *FLAT], IMAGE, {}, 13, "must be constant"),
    "input constant": ([node("Conv", "k x", "a"), *FLAT], IMAGE, KERNEL, 13, "it must be constant"),
    "bias of another size": ([node("Conv", "x k c", "a"), *FLAT], IMAGE, {**KERNEL, "c": floats(3)}, 13, "a bias of"),
    "weights of text": (convolved(), IMAGE, {"k": np.array([[[["?"]]]], object)}, 13, "not valid ONNX"),
    "weights not finite": (convolved(), IMAGE, {"k": np.full((4, 2, 3, 3), np.nan, np.float32)}, 13, "not finite"),
    "weights beyond float32": (convolved(), IMAGE, {"k": np.full((4, 2, 3, 3), 1e300)}, 13, "not finite"),
    "bias beyond float32": ([node("Add", "x c", "a"), *FLAT], IMAGE, {"c": np.array(1e300)}, 13, "not finite"),
    "divided by zero": ([node("Div", "x c", "a"), *FLAT], IMAGE, {"c": np.float32(0)}, 13, "not finite"),
    "division by the image": ([node("Div", "c x", "a"), *FLAT], IMAGE, {"c": np.float32(1)}, 13, "is constant"),
    "product of images": ([node("Mul", "x x", "a"), *FLAT], IMAGE, {}, 13, "must be constant"),
    "transA": ([gemm(transA=1)], (18, 18), FC, 13, "transA"),
    "gemm on images": ([gemm()], IMAGE, FC, 13, "flat tensor"),
    "gemm that does not fit": ([gemm()], (1, 17), FC, 13, "does not fit 17 features"),
    "gemm bias per image": ([gemm()], (2, 18), {**FC, "b": floats(2, 3)}, 13, "a bias of shape (2, 3)"),
    "product from the left": ([node("MatMul", "w x", "y")], (18, 18), FC, 13, "in this order"),
    "product along the width": (
        [node("MatMul", "x v", "a"), *FLAT], IMAGE, {"v": floats(5, 3)}, 13, "only flat tensors"
    ),
    "norm in training": (
        [node("BatchNormalization", "x s t m v", "a", training_mode=1), *FLAT], IMAGE, NORM, 15, "training mode"
    ),
    "norm per place": ([node("BatchNormalization", "x s t m v", "a", spatial=0), *FLAT], IMAGE, NORM, 8, "spatial"),
    "norm of other channels": (
        [node("BatchNormalization", "x s t m v", "a"), *FLAT], IMAGE, {**NORM, "s": floats(3)}, 15, "(2,) is needed"
    ),
    "variance negative": (
        [node("BatchNormalization", "x s t m v", "a"), *FLAT], IMAGE, {**NORM, "v": ints(-1, 1)}, 15, "not finite"
    ),
    "clip to 0..1": ([node("Clip", "x", "a", min=0.0, max=1.0), *FLAT], IMAGE, {}, 8, "clips to 0.0..1.0"),
    "clip at neither end": ([node("Clip", "x", "a"), *FLAT], IMAGE, {}, 13, "clips to None..None"),
    "clip above only": ([node("Clip", "x", "a", max=6.0), *FLAT], IMAGE, {}, 8, "only 0.. (ReLU)"),
    "clip to a list": ([node("Clip", "x s", "a"), *FLAT], IMAGE, NORM, 13, "one number is needed"),
    "clip by the image": ([node("Clip", "x x", "a"), *FLAT], IMAGE, {}, 13, "must be constant"),
    "sum of shapes": ([CONV, node("Add", "x a", "z"), node("Flatten", "z", "y")], IMAGE, KERNEL, 13, "must be equal"),
    "constant that does not fit": ([node("Add", "x c", "a"), *FLAT], IMAGE, {"c": floats(7)}, 13, "does not fit"),
    "constant per image": ([node("Add", "x c", "a"), *FLAT], IMAGE, {"c": floats(2, 1, 1, 1)}, 13, "does not fit"),
    "mean without padding": (pooled("AveragePool", pads=[1, 1, 1, 1]), IMAGE, {}, 13, "count_include_pad"),
    "mean beyond": (pooled("AveragePool", ceil_mode=1, strides=[2, 2]), IMAGE, {}, 13, "reach beyond"),
    "pool of padding": (
        pooled("MaxPool", kernel_shape=[1 << 31, 2], auto_pad="SAME_UPPER"), IMAGE, {}, 13, "more than 67108864 values"
    ),
    "pool of 3D": (pooled("MaxPool", kernel_shape=[2, 2, 2]), IMAGE, {}, 13, "only 2D"),
    "pool of a flat tensor": (pooled("MaxPool"), (1, 18), {}, 13, "only 2D"),
    "pool dilated": (pooled("MaxPool", dilations=[2, 2]), IMAGE, {}, 13, "dilations"),
    "kernel 0": (pooled("MaxPool", kernel_shape=[0, 2]), IMAGE, {}, 13, "must be positive"),
    "places of the greatest": (
        [node("MaxPool", "x", "p a", kernel_shape=[2, 2]), *FLAT], IMAGE, {}, 13, "'a' is neither"
    ),
    "mean of channels": ([node("ReduceMean", "x", "a", axes=[1]), *FLAT], IMAGE, {}, 13, "over channels"),
    "mean of images": ([node("ReduceMean", "x", "a", axes=[0]), *FLAT], IMAGE, {}, 13, "axes"),
    "mean of everything": ([node("ReduceMean", "x", "y", keepdims=0)], IMAGE, {}, 13, "mean of everything"),
    "mean of no axis": ([node("ReduceMean", "x", "a", axes=[7]), *FLAT], IMAGE, {}, 13, "axes [7]"),
    "padded with ones": (padded([0, 0, 1, 1] * 2, value=1.0), IMAGE, KERNEL, 8, "padding with zeros"),
    "mirrored": (padded([0, 0, 1, 1] * 2, mode="reflect"), IMAGE, KERNEL, 8, "padding with zeros"),
    "padded by less": (padded([0, 0, -1, 0] * 2), IMAGE, KERNEL, 8, "only the height and width"),
    "padded channels": (padded([0, 1, 0, 0] * 2), IMAGE, KERNEL, 8, "only the height and width"),
    "padded images": (padded([1, 0, 0, 0] * 2), IMAGE, KERNEL, 8, "axis of the images"),
    "too few paddings": (padded([0, 0, 1]), IMAGE, KERNEL, 8, "3 pads for 4 axes"),
    "padded result": ([node("Pad", "x", "a", pads=[0, 0, 1, 1] * 2), *FLAT], IMAGE, {}, 8, "can be padded"),
    "softmax inside": ([node("Softmax", "x", "a", axis=1), node("Relu", "a", "y")], (2, 18), {}, 8, "only at the end"),
    "softmax per place": ([CONV, node("Softmax", "a", "y", axis=1)], IMAGE, KERNEL, 13, "not one over all logits"),
    "softmax over images": ([node("Softmax", "x", "y", axis=0)], (2, 18), {}, 13, "axes [0]"),
    "mixed images": ([node("Reshape", "x s", "a"), *FLAT], IMAGE, {"s": ints(1, 80)}, 13, "mixes images"),
    "reshaped to more": ([node("Reshape", "x s", "a"), *FLAT], IMAGE, {"s": ints(2, 80)}, 13, "Reshape ('the_a')"),
    "reshaped by -1 twice": ([node("Reshape", "x s", "a"), *FLAT], IMAGE, {"s": ints(-1, -1)}, 13, "Reshape ('the_a')"),
    "reshaped by the image": ([node("Reshape", "x x", "a"), *FLAT], IMAGE, {}, 13, "must be constant"),
    "transposed inside": (
        [node("Transpose", "x", "q", perm=[0, 1, 3, 2]), node("Conv", "q k", "a"), *FLAT],
        IMAGE, KERNEL, 13, "only at the input",
    ),
    "cast to integers": ([node("Cast", "x", "a", to=TensorProto.INT64), *FLAT], IMAGE, {}, 13, "other than float"),
    "dropout in training": (
        [node("Dropout", "x r t", "a"), *FLAT],
        IMAGE, {"r": np.float32(0.5), "t": np.ones((), np.bool_)}, 13, "training mode",
    ),
    "constant huge": (
        [node("ConstantOfShape", "s", "c"), node("Add", "x c", "a"), *FLAT], IMAGE, {"s": ints(1 << 40)}, 13, "smaller"
    ),
    "constant of a negative size": (
        [node("ConstantOfShape", "s", "c"), node("Add", "x c", "a"), *FLAT], IMAGE, {"s": ints(-3)}, 13, "not valid"
    ),
    "expanded hugely": (
        [node("Expand", "c s", "d"), node("Add", "x d", "a"), *FLAT],
        IMAGE, {"c": floats(1), "s": ints(1 << 20, 1 << 20)}, 13, "smaller",
    ),
    "range huge": (
        [node("Range", "u v w", "d"), node("Add", "x d", "a"), *FLAT],
        IMAGE, {"u": np.float32(0), "v": np.float32(1e30), "w": np.float32(1)}, 13, "smaller",
    ),
    "range endless": (
        [node("Range", "u v w", "d"), node("Add", "x d", "a"), *FLAT],
        IMAGE, {"u": np.float32(0), "v": np.float32(1), "w": np.float32(0)}, 13, "Range",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", OTHERS)
def test_what_is_wrong_in_a_graph_is_one_line_that_says_where(fault: str, tmp_path: Path) -> None:
    nodes, shape, constants, opset, reason = OTHERS[fault]
    assert reason in refusal(model(nodes, shape, constants, opset=opset), tmp_path)
