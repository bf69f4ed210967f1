"""Imported ONNX files compute what onnxruntime says they do, with no more layers than they need."""

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, external_data_helper, helper

from autoprivacy.common.errors import BadInput
from tests.networks.foreign import KINDS, randomised
from tests.networks.onnx_files import check, images, imported, kinds, model, node, outputs

RNG = np.random.default_rng(0)


def floats(*shape: int) -> NDArray[np.float32]:
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def exported(module: torch.nn.Module, shape: tuple[int, ...], opset: int, *, any_batch: bool) -> onnx.ModelProto:
    content = BytesIO()
    axes = {"x": {0: "n"}} if any_batch else None
    with warnings.catch_warnings():
        # The exporter's own: that it is an old one, and that it will not fold constants before opset 9.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*opset", category=UserWarning)
        torch.onnx.export(
            module,
            (torch.zeros(2, *shape),),
            content,
            opset_version=opset,
            dynamo=False,
            input_names=["x"],
            dynamic_axes=axes,
        )
    return onnx.load_model_from_string(content.getvalue())


@pytest.mark.parametrize(("opset", "any_batch"), [(8, False), (9, True), (11, False), (13, True), (17, False)])
@pytest.mark.parametrize("kind", KINDS)
def test_what_torch_exports_computes_what_onnxruntime_says(
    kind: str, opset: int, any_batch: bool, tmp_path: Path
) -> None:
    make, shape = KINDS[kind]
    made = exported(randomised(make()), shape, opset, any_batch=any_batch)
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


FLAT = [node("Flatten", "a", "y")]
FC = {"w": floats(18, 3), "b": floats(3)}

SNIPPETS = {
    "gemm": ([node("Gemm", "x w b", "y")], (2, 18), FC, 13),
    "gemm factors": ([node("Gemm", "x v b", "y", transB=1, alpha=0.5, beta=-2.0)], (2, 18), {"v": floats(3, 18), "b": floats(1, 3)}, 9),
    "gemm no bias": ([node("Gemm", "x w", "y")], (2, 18), FC, 11),
    "gemm scalar bias": ([node("Gemm", "x w c", "y")], (2, 18), {**FC, "c": floats(1)}, 13),
    "matmul and add": ([node("MatMul", "x w", "a"), node("Add", "b a", "y")], (2, 18), FC, 8),
    "matmul with axes of 1": (
        [node("Reshape", "x s", "a"), node("MatMul", "a w", "c"), node("Squeeze", "c one", "y")],
        (2, 18),
        {**FC, "s": ints(2, 1, 18), "one": ints(1)},
        13,
    ),
    "conv and add": (
        [node("Conv", "x k", "p"), node("Add", "p c", "a"), *FLAT],
        (1, 2, 4, 4),
        {"k": floats(3, 2, 3, 3), "c": floats(3, 1, 1)},
        8,
    ),
    "add per place": ([node("Conv", "x k", "p"), node("Add", "p c", "a"), *FLAT], (1, 2, 4, 4), {"k": floats(3, 2, 3, 3), "c": floats(1, 3, 2, 2)}, 13),
    "norm, opset 8": (
        [node("Conv", "x k", "p"), node("BatchNormalization", "p s t m v", "a", spatial=1, epsilon=0.1), *FLAT],
        (1, 2, 4, 4),
        {"k": floats(3, 2, 3, 3), "s": floats(3), "t": floats(3), "m": floats(3), "v": np.abs(floats(3))},
        8,
    ),
    "norm before gemm": (
        [node("Flatten", "x", "f"), node("BatchNormalization", "f s t m v", "n"), node("Gemm", "n w b", "y")],
        (2, 2, 3, 3),
        {**FC, "s": floats(18), "t": floats(18), "m": floats(18), "v": np.abs(floats(18))},
        15,
    ),
    "norm of a flat tensor alone": (
        [node("Gemm", "x w b", "g"), node("Relu", "g", "r"), node("BatchNormalization", "r s t m v", "y")],
        (2, 18),
        {**FC, "s": floats(3), "t": floats(3), "m": floats(3), "v": np.abs(floats(3))},
        14,
    ),
    "clip attributes": ([node("Clip", "x", "a", min=0.0, max=6.0), *FLAT], (1, 1, 2, 9), {}, 8),
    "clip inputs": ([node("Clip", "x lo hi", "a"), *FLAT], (1, 1, 2, 9), {"lo": np.float32(0), "hi": np.float32(6)}, 12),
    "clip below": ([node("Clip", "x lo", "a"), *FLAT], (1, 1, 2, 9), {"lo": np.float32(0)}, 12),
    "clip above a relu": ([node("Relu", "x", "r"), node("Clip", "r - hi", "a"), *FLAT], (1, 1, 2, 9), {"hi": np.float32(6)}, 12),
    "clip above, attribute": ([node("Relu", "x", "r"), node("Clip", "r", "a", max=6.0), *FLAT], (1, 1, 2, 9), {}, 8),
    "sum of three": ([node("Relu", "x", "r"), node("Sum", "x r x", "a"), *FLAT], (1, 1, 2, 9), {}, 8),
    "sum with a constant": ([node("Relu", "x", "r"), node("Sum", "x c r", "a"), *FLAT], (1, 1, 2, 9), {"c": floats(1, 1, 2, 9)}, 8),
    "difference": ([node("Relu", "x", "r"), node("Sub", "x r", "a"), *FLAT], (1, 1, 2, 9), {}, 13),
    "constant minus": ([node("Sub", "c x", "a"), *FLAT], (1, 2, 2, 9), {"c": floats(2, 1, 1)}, 13),
    "scaled input": (
        [node("Sub", "x m", "d"), node("Div", "d s", "n"), node("Conv", "n k", "a"), *FLAT],
        (1, 2, 4, 4),
        {"m": floats(1, 2, 1, 1), "s": np.float32(3), "k": floats(4, 2, 3, 3)},
        13,
    ),
    "global average": ([node("GlobalAveragePool", "x", "a"), *FLAT], (2, 3, 4, 5), {}, 8),
    "global max": ([node("GlobalMaxPool", "x", "a"), *FLAT], (2, 3, 4, 5), {}, 8),
    "mean, kept": ([node("ReduceMean", "x", "a", axes=[2, 3]), *FLAT], (2, 3, 4, 5), {}, 8),
    "mean, not kept": ([node("ReduceMean", "x", "y", axes=[-1, -2], keepdims=0)], (2, 3, 4, 5), {}, 13),
    "mean, axes as input": ([node("ReduceMean", "x s", "y", keepdims=0)], (2, 3, 4, 5), {"s": ints(2, 3)}, 18),
    "mean along the width": ([node("ReduceMean", "x", "a", axes=[3]), *FLAT], (2, 3, 4, 5), {}, 13),
    "flatten, negative": ([node("Relu", "x", "a"), node("Flatten", "a", "y", axis=-3)], (2, 3, 4, 5), {}, 13),
    "reshape 0, -1": ([node("Relu", "x", "a"), node("Reshape", "a s", "y")], (2, 3, 4, 5), {"s": ints(0, -1)}, 8),
    "reshape -1": ([node("Relu", "x", "a"), node("Reshape", "a s", "y")], (2, 3, 4, 5), {"s": ints(-1, 60)}, 8),
    "reshape to an image": (
        [node("Reshape", "x s", "p"), node("Conv", "p k", "a"), *FLAT],
        ("n", 18),
        {"s": ints(-1, 2, 3, 3), "k": floats(1, 2, 2, 2)},
        13,
    ),
    "squeezed": ([node("GlobalMaxPool", "x", "a"), node("Squeeze", "a", "y", axes=[2, 3])], (2, 3, 4, 5), {}, 9),
    "unsqueezed": (
        [node("Gemm", "x w b", "g"), node("Unsqueeze", "g s", "u"), node("Conv", "u k", "a"), *FLAT],
        (2, 18),
        {**FC, "s": ints(2, 3), "k": floats(2, 3, 1, 1)},
        13,
    ),
    "nothing": (
        [node("Identity", "x", "i"), node("Dropout", "i", "d m"), node("Cast", "d", "c", to=1), node("Relu", "c", "y")],
        (1, 18),
        {},
        11,
    ),
    "padded convolution": (
        [node("Pad", "x", "p", pads=[0, 0, 1, 0, 0, 0, 0, 2]), node("Conv", "p k", "a", pads=[1, 1, 1, 0]), *FLAT],
        (1, 2, 4, 4),
        {"k": floats(3, 2, 3, 3)},
        8,
    ),
    "padded max pool": (
        [node("Relu", "x", "r"), node("Pad", "r s", "p"), node("MaxPool", "p", "a", kernel_shape=[3, 3]), *FLAT],
        (1, 2, 4, 4),
        {"s": ints(0, 0, 1, 1, 0, 0, 1, 1)},
        13,
    ),
    "padded average": (
        [node("Pad", "x s - ax", "p"), node("AveragePool", "p", "a", kernel_shape=[2, 2]), *FLAT],
        (1, 2, 4, 4),
        {"s": ints(1, 0, 0, 1), "ax": ints(-2, 3)},
        18,
    ),
    "gemm, opset 22": ([node("Gemm", "x w b", "y")], (1, 18), FC, 22),
}  # fmt: skip


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_an_operator_computes_what_onnxruntime_says(snippet: str, tmp_path: Path) -> None:
    nodes, shape, constants, opset = SNIPPETS[snippet]
    check(model(nodes, shape, constants, opset=opset), tmp_path)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    operator=st.sampled_from(["Conv", "MaxPool", "AveragePool"]),
    opset=st.sampled_from([11, 13, 19, 22]),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    where=st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET", None]),
    pads=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    groups=st.sampled_from([1, 2, 4]),
    ceil_mode=st.booleans(),
)
def test_windows_are_those_of_onnxruntime(
    tmp_path: Path,
    operator: str,
    opset: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    where: str | None,
    pads: list[int],
    groups: int,
    *,
    ceil_mode: bool,
) -> None:
    pads = [min(pad, extent - 1) for pad, extent in zip(pads, kernel * 2, strict=True)]
    attributes: dict[str, object] = {"strides": stride, "kernel_shape": kernel}
    attributes |= {} if where is None else {"auto_pad": where}
    attributes |= {"pads": pads} if where in {None, "NOTSET"} else {}
    if operator == "Conv":
        attributes["group"] = groups
    elif where in {None, "NOTSET"}:
        attributes["ceil_mode"] = int(ceil_mode)
    elif where != "VALID":
        # With others onnxruntime computes a negative padding, and refuses it.
        attributes["strides"] = [min(pair) for pair in zip(stride, kernel, strict=True)]
    if operator == "AveragePool":
        attributes["count_include_pad"] = 1
    inputs = "x w" if operator == "Conv" else "x"
    weights = {"w": floats(4, 4 // groups, *kernel)} if operator == "Conv" else {}
    made = model([node(operator, inputs, "a", **attributes), *FLAT], (2, 4, *size), weights, opset=opset)
    try:
        found = imported(made, tmp_path)
    except BadInput as error:
        # Means of windows that reach beyond the input have no layer; others do not fit into the input at all.
        assume("reach beyond" not in str(error))
        assert "larger than its padded input" in str(error)
        return
    x = images(made)
    np.testing.assert_allclose(found.trained.run(x), outputs(made, x), rtol=0, atol=1e-4)


CONV = node("Conv", "x k", "c", pads=[1, 1, 1, 1])
NORM = {"s": floats(4), "t": floats(4), "m": floats(4), "v": np.abs(floats(4))}
KERNEL = {"k": floats(4, 4, 3, 3)}


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
    more = {"e": floats(1, 4, 1, 1), "one": np.float32(1), "six": np.float32(6)}
    found = check(model([*nodes, *FLAT], (2, 4, 5, 5), {**KERNEL, **NORM, **more}, opset=14), tmp_path)
    assert kinds(found) == [*wanted, "flatten"]


def test_a_scale_of_channels_goes_through_a_flatten_into_the_columns_that_read_them(tmp_path: Path) -> None:
    nodes = [
        *(node("Relu", "x", "r"), node("Mul", "r e", "n"), node("Add", "n e", "o")),
        *(node("Flatten", "o", "f"), node("Gemm", "f w b", "y")),
    ]
    found = check(model(nodes, (2, 2, 3, 3), {**FC, "e": floats(2, 1, 1)}), tmp_path)
    assert kinds(found) == ["relu", "flatten", "linear"]


def nhwc(*, first: str = "x", ends: str = "flat") -> onnx.ModelProto:
    """As tf2onnx writes a Keras network: images, constants and flattened features are NHWC, convolutions NCHW."""
    nodes = [
        *(
            node("Sub", f"{first} mean", "s"),
            node("Mul", "s scale", "u"),
            node("Transpose", "u", "v", perm=[0, 3, 1, 2]),
        ),
        *(
            node("Conv", "v k", "c", auto_pad="SAME_UPPER", strides=[2, 2]),
            node("Transpose", "c", "d", perm=[0, 2, 3, 1]),
        ),
        *(node("Add", "d bias", "e"), node("Relu", "e", "f"), node("Pad", "f pads", "g")),
        *(
            node("Transpose", "g", "h", perm=[0, 3, 1, 2]),
            node("MaxPool", "h", "i", kernel_shape=[2, 2], strides=[2, 2]),
        ),
        node("Transpose", "i", "j", perm=[0, 2, 3, 1]),
    ]
    if ends == "flat":
        nodes += [node("Reshape", "j shape", "l"), node("MatMul", "l w", "m"), node("Add", "m b", "y")]
    else:
        nodes += [node("ReduceMean", "j", "y", axes=[1, 2], keepdims=0)]
    constants = {
        "mean": floats(3),
        "scale": np.float32(0.5),
        "k": floats(4, 3, 3, 3),
        "bias": floats(4),
        "pads": ints(0, 1, 0, 0, 0, 0, 1, 0),
        "shape": ints(-1, 4 * 2 * 2),
        "w": floats(16, 5),
        "b": floats(5),
    }
    return model(nodes, ("n", 6, 5, 3), constants, opset=13)


@pytest.mark.parametrize("ends", ["flat", "mean"])
def test_a_channels_last_file_takes_channels_last_images(ends: str, tmp_path: Path) -> None:
    made = nhwc(ends=ends)
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
    made = model([node("Gemm", "x w b", "y")], (1, 18), {n: v.astype(dtype) for n, v in FC.items()}, kind=kind)
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
