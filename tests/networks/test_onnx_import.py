"""Imported ONNX files compute what onnxruntime says they do, with no more layers than they need."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, external_data_helper, helper

from tests.networks.foreign import KINDS, randomised
from tests.networks.onnx_files import (
    FC,
    FLAT,
    Arrays,
    check,
    floats,
    images,
    imported,
    ints,
    kinds,
    model,
    node,
    outputs,
)


def exported(
    module: torch.nn.Module, shape: tuple[int, ...], opset: int, folder: Path, *, any_batch: bool
) -> onnx.ModelProto:
    path = folder / "exported.onnx"
    axes = {"x": {0: "n"}} if any_batch else None
    with warnings.catch_warnings():
        # The exporter's own: that it is an old one, and that it will not fold constants before opset 9.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*opset", category=UserWarning)
        torch.onnx.export(
            module,
            (torch.zeros(2, *shape),),
            path,
            opset_version=opset,
            dynamo=False,
            input_names=["x"],
            dynamic_axes=axes,
        )
    return onnx.load(path)


@pytest.mark.parametrize("opset", range(8, 18))
@pytest.mark.parametrize("kind", KINDS)
def test_what_torch_exports_computes_what_onnxruntime_says(kind: str, opset: int, tmp_path: Path) -> None:
    make, shape = KINDS[kind]
    made = exported(randomised(make()), shape, opset, tmp_path, any_batch=opset % 2 == 1)
    found = imported(made, tmp_path)
    x = images(made)
    logits, wanted = found.trained.run(x), outputs(made, x)
    if kind == "lenet":
        logits = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if kind == "minionn":
        logits = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-4)
    ends = kind in {"lenet", "minionn"}
    assert len(found.notes) == ends
    assert all("softmax" in note for note in found.notes)
    normalised = kind == "minionn"  # its input, in front of a padded convolution that could not be shifted
    convolutions = sum(isinstance(part, torch.nn.Conv2d) for part in make().modules())
    assert kinds(found).count("conv2d") == convolutions + normalised


CONV = node("Conv", "x k", "c", pads=[1, 1, 1, 1])
NORM: Arrays = {"s": floats(4), "t": floats(4), "m": floats(4), "v": np.abs(floats(4))}
KERNEL: Arrays = {"k": floats(4, 4, 3, 3)}


@pytest.mark.parametrize(
    ("nodes", "wanted"),
    [
        ([CONV, node("BatchNormalization", "c s t m v", "a")], ["conv2d"]),
        ([CONV, node("BatchNormalization", "c s t m v", "n"), node("Mul", "n e", "a")], ["conv2d"]),
        ([CONV, node("Mul", "c one", "a")], ["conv2d"]),
        ([CONV, node("BatchNormalization", "c s t m v", "n"), node("Add", "c n", "a")], ["conv2d", "conv2d", "add"]),
        ([CONV, node("Add", "x c", "d"), node("BatchNormalization", "d s t m v", "a")], ["conv2d", "add", "conv2d"]),
        ([node("Mul", "x e", "n"), node("Conv", "n k", "a", pads=[1, 1, 1, 1])], ["conv2d"]),
        ([node("Add", "x e", "n"), node("Conv", "n k", "a")], ["conv2d"]),
        ([node("Add", "x e", "n"), node("Conv", "n k", "a", pads=[1, 1, 1, 1])], ["conv2d", "conv2d"]),
        ([CONV, node("Relu", "c", "r"), node("Relu", "r", "r2"), node("Clip", "r2 - six", "a")], ["conv2d", "relu6"]),
        ([CONV, node("Relu", "c", "r"), node("Relu", "x", "unused"), node("Identity", "r", "a")], ["conv2d", "relu"]),
    ],
)  # fmt: skip
def test_no_layer_is_left_that_another_can_take_in(
    nodes: list[onnx.NodeProto], wanted: list[str], tmp_path: Path
) -> None:
    more: Arrays = {"e": floats(1, 4, 1, 1), "one": np.float32(1), "six": np.float32(6)}
    found = check(model([*nodes, *FLAT], (2, 4, 5, 5), {**KERNEL, **NORM, **more}, opset=14), tmp_path)
    assert kinds(found) == [*wanted, "flatten"]


def test_a_scale_of_channels_goes_through_a_flatten_into_the_columns_that_read_them(tmp_path: Path) -> None:
    nodes = [
        *(node("Relu", "x", "r"), node("Mul", "r e", "n"), node("Add", "n e", "o")),
        *(node("Flatten", "o", "f"), node("Gemm", "f w b", "y")),
    ]
    found = check(model(nodes, (2, 2, 3, 3), {**FC, "e": floats(2, 1, 1)}), tmp_path)
    assert kinds(found) == ["relu", "flatten", "linear"]


def nhwc(opset: int, *, ends: str) -> onnx.ModelProto:
    """As tf2onnx writes a Keras network: images, constants and flattened features are NHWC, convolutions NCHW."""
    to_channels_first, to_channels_last = [0, 3, 1, 2], [0, 2, 3, 1]
    pads = [0, 1, 0, 0, 0, 0, 1, 0]
    nodes = [
        *(node("Sub", "x mean", "s"), node("Mul", "s scale", "u"), node("Transpose", "u", "v", perm=to_channels_first)),
        node("Conv", "v k", "c", auto_pad="SAME_UPPER", strides=[2, 2]),
        *(node("Transpose", "c", "d", perm=to_channels_last), node("Add", "d bias", "e"), node("Relu", "e", "f")),
        node("Pad", "f", "g", pads=pads) if opset < 11 else node("Pad", "f pads", "g"),
        node("Transpose", "g", "h", perm=to_channels_first),
        node("MaxPool", "h", "i", kernel_shape=[2, 2], strides=[2, 2]),
        node("Transpose", "i", "j", perm=to_channels_last),
    ]
    if ends == "flat":
        nodes += [node("Reshape", "j shape", "l"), node("MatMul", "l w", "m"), node("Add", "m b", "y")]
    else:
        nodes += [node("ReduceMean", "j", "y", axes=[1, 2], keepdims=0)]
    constants: Arrays = {
        "mean": floats(3),
        "scale": np.float32(0.5),
        "k": floats(4, 3, 3, 3),
        "bias": floats(4),
        "pads": ints(*pads),
        "shape": ints(-1, 4 * 2 * 2),
        "w": floats(16, 5),
        "b": floats(5),
    }
    return model(nodes, ("n", 6, 5, 3), constants, opset=opset)


@pytest.mark.parametrize("opset", [8, 11, 13, 17])
@pytest.mark.parametrize("ends", ["flat", "mean"])
def test_a_channels_last_file_takes_channels_last_images(ends: str, opset: int, tmp_path: Path) -> None:
    made = nhwc(opset, ends=ends)
    found = check(made, tmp_path)
    network = found.trained.network
    assert network.channels_last
    assert network.input_shape == (3, 6, 5)
    x = images(made)
    np.testing.assert_array_equal(found.trained.run(x), found.trained.run(x.transpose(0, 3, 1, 2)))


def test_flat_inputs_say_how_images_are_given(tmp_path: Path) -> None:
    found = check(model([node("Gemm", "x w b", "y")], ("n", 18), FC), tmp_path)
    assert found.trained.network.input_shape == (1, 1, 18)
    assert "(1, 1, 18)" in found.notes[0]


def test_shapes_may_be_computed_from_the_input(tmp_path: Path) -> None:
    nodes = [
        *(node("Relu", "x", "r"), node("Shape", "r", "sizes"), node("Constant", "", "zero", value_int=0)),
        *(node("Gather", "sizes zero", "n"), node("Unsqueeze", "n axes", "first")),
        *(node("Constant", "", "rest", value_ints=[-1]), node("Concat", "first rest", "shape", axis=0)),
        node("Reshape", "r shape", "y"),
    ]
    check(model(nodes, ("n", 2, 3, 4), {"axes": ints(0)}), tmp_path)


def test_weights_may_be_computed_from_constants(tmp_path: Path) -> None:
    nodes = [
        node("Constant", "", "raw", value=helper.make_tensor("", TensorProto.DOUBLE, [54], floats(54).astype(float))),
        *(node("Reshape", "raw shape", "square"), node("Transpose", "square", "turned", perm=[1, 0])),
        *(node("Cast", "turned", "w", to=TensorProto.FLOAT), node("Identity", "w", "w2")),
        node("ConstantOfShape", "three", "b", value=helper.make_tensor("", TensorProto.FLOAT, [1], [0.25])),
        *(node("Constant", "", "factor", value_float=2.0), node("Mul", "b factor", "b2"), node("Gemm", "x w2 b2", "y")),
    ]
    check(model(nodes, (1, 18), {"shape": ints(3, 18), "three": ints(3)}), tmp_path)


@pytest.mark.parametrize(("kind", "dtype"), [(TensorProto.FLOAT16, np.float16), (TensorProto.DOUBLE, np.float64)])
def test_other_floats_become_single_precision(kind: int, dtype: type, tmp_path: Path) -> None:
    made = model(
        [node("Gemm", "x w b", "y")], (1, 18), {n: np.asarray(v).astype(dtype) for n, v in FC.items()}, kind=kind
    )
    x = images(made)
    run = imported(made, tmp_path).trained.run(x.reshape(1, 1, 1, 18))
    np.testing.assert_allclose(run, outputs(made, x.astype(dtype)), rtol=0, atol=1e-4 if dtype is np.float64 else 0.05)


def test_initializers_may_be_inputs_too(tmp_path: Path) -> None:
    made = model([node("Gemm", "x w b", "y")], (1, 18), FC, opset=8)
    made.ir_version = 3
    for tensor in made.graph.initializer:
        made.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    check(made, tmp_path)


def test_names_are_made_valid_and_unique(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "r"), node("Conv", "r k", "c"), node("Relu", "c", "a"), *FLAT]
    for each, name in zip(nodes, ["/one/Relu", "input", "one//Relu", ""], strict=True):
        each.name = name
    found = check(model(nodes, (1, 4, 4, 4), KERNEL), tmp_path).trained.network
    assert [layer.name for layer in found.layers] == ["one_Relu", "input_2", "one_Relu_2", "one_Relu_2_flat"]
    assert found.name == "model"


def test_weights_may_lie_in_the_same_folder(tmp_path: Path) -> None:
    made = model([node("Gemm", "x w b", "y")], (1, 18), FC)
    wanted = imported(made, tmp_path).trained
    external_data_helper.convert_model_to_external_data(made, location="weights", size_threshold=0)
    onnx.save(made, tmp_path / "model.onnx")
    assert (tmp_path / "weights").exists()
    assert imported(made, tmp_path).trained.hash == wanted.hash
