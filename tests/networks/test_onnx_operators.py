"""Every ONNX operator that is taken computes what onnxruntime says it does, in all its forms."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.networks.onnx_files import (
    FC,
    FLAT,
    Arrays,
    check,
    floats,
    images,
    imported,
    ints,
    model,
    node,
    outputs,
    refusal,
)

SNIPPETS: dict[str, tuple[list[onnx.NodeProto], tuple[int | str, ...], Arrays, int]] = {
    "gemm": ([node("Gemm", "x w b", "y")], (2, 18), FC, 13),
    "gemm factors": (
        [node("Gemm", "x v b", "y", transB=1, alpha=0.5, beta=-2.0)],
        (2, 18),
        {"v": floats(3, 18), "b": floats(1, 3)},
        9,
    ),
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
    "add per place": (
        [node("Conv", "x k", "p"), node("Add", "p c", "a"), *FLAT],
        (1, 2, 4, 4),
        {"k": floats(3, 2, 3, 3), "c": floats(1, 3, 2, 2)},
        13,
    ),
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
    "clip inputs": (
        [node("Clip", "x lo hi", "a"), *FLAT],
        (1, 1, 2, 9),
        {"lo": np.float32(0), "hi": np.float32(6)},
        12,
    ),
    "clip below": ([node("Clip", "x lo", "a"), *FLAT], (1, 1, 2, 9), {"lo": np.float32(0)}, 12),
    "clip above a relu": (
        [node("Relu", "x", "r"), node("Clip", "r - hi", "a"), *FLAT],
        (1, 1, 2, 9),
        {"hi": np.float32(6)},
        12,
    ),
    "clip above, attribute": ([node("Relu", "x", "r"), node("Clip", "r", "a", max=6.0), *FLAT], (1, 1, 2, 9), {}, 8),
    "sum of three": ([node("Relu", "x", "r"), node("Sum", "x r x", "a"), *FLAT], (1, 1, 2, 9), {}, 8),
    "sum with a constant": (
        [node("Relu", "x", "r"), node("Sum", "x c r", "a"), *FLAT],
        (1, 1, 2, 9),
        {"c": floats(1, 1, 2, 9)},
        8,
    ),
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
    "a network of opset 7": (
        [
            *(node("Conv", "x k", "c"), node("BatchNormalization", "c s t m v", "n"), node("Relu", "n", "r")),
            *(node("Dropout", "r", "d", ratio=0.3), node("AveragePool", "d", "p", kernel_shape=[2, 2])),
            *(node("Add", "p e", "a"), *FLAT),
        ],
        (1, 2, 4, 4),
        {
            "k": floats(3, 2, 3, 3),
            "s": floats(3),
            "t": floats(3),
            "m": floats(3),
            "v": np.abs(floats(3)),
            "e": floats(3, 1, 1),
        },
        7,
    ),
    "gemm, opset 22": ([node("Gemm", "x w b", "y")], (1, 18), FC, 22),
}


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_an_operator_computes_what_onnxruntime_says(snippet: str, tmp_path: Path) -> None:
    nodes, shape, constants, opset = SNIPPETS[snippet]
    check(model(nodes, shape, constants, opset=opset), tmp_path)


SOFTMAXES = {
    "the default axis": [node("Gemm", "x w b", "g"), node("Softmax", "g", "y")],
    "the last axis": [node("Gemm", "x w b", "g"), node("Softmax", "g", "y", axis=-1)],
    "logarithm": [node("Gemm", "x w b", "g"), node("LogSoftmax", "g", "y", axis=1)],
    "before a dropout": [node("Gemm", "x w b", "g"), node("Softmax", "g", "s", axis=1), node("Dropout", "s", "y")],
    "before a view": [node("Gemm", "x w b", "g"), node("Softmax", "g", "s", axis=1), node("Flatten", "s", "y")],
}


@pytest.mark.parametrize("opset", [8, 12, 13, 17])
@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_a_softmax_at_the_end_is_left_out_with_a_note(softmax: str, opset: int, tmp_path: Path) -> None:
    made = model(SOFTMAXES[softmax], (4, 18), FC, opset=opset)
    found = imported(made, tmp_path)
    assert any("softmax" in note and "left out" in note for note in found.notes)
    x = images(made)
    exponentials = np.exp(found.trained.run(x.reshape(4, 1, 1, 18)))
    shares = exponentials / exponentials.sum(axis=1, keepdims=True)
    wanted = outputs(made, x)
    np.testing.assert_allclose(shares, np.exp(wanted) if softmax == "logarithm" else wanted, rtol=0, atol=1e-5)


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
    attributes: dict[str, Any] = {"strides": stride, "kernel_shape": kernel}
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
    weights = np.random.default_rng(0).normal(size=(4, 4 // groups, *kernel)).astype(np.float32)
    constants = {"w": weights} if operator == "Conv" else {}
    made = model([node(operator, inputs, "a", **attributes), *FLAT], (2, 4, *size), constants, opset=opset)
    refused = refusal(made, tmp_path)
    # Means of windows that reach beyond the input have no layer; others do not fit into the input at all.
    assume("reach beyond" not in refused)
    if refused:
        assert "larger than its padded input" in refused
    else:
        check(made, tmp_path)
