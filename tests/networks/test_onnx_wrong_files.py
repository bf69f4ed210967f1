"""Whatever is wrong with an ONNX file, it is one line that names the file, the place and what to do; never a crash."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from autoprivacy.common.errors import BadInput
from autoprivacy.networks.importing import onnx_import
from tests.networks.onnx_files import FC, FLAT, Arrays, floats, imported, model, node, refusal

IMAGE = (2, 2, 4, 5)


def refused(path: Path) -> str:
    """The one line that is said of a file, without the file's name."""
    with pytest.raises(BadInput) as caught:
        onnx_import.load(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert line.isprintable()
    assert len(line) < 2100
    return line.removeprefix(f"{path}: ")


def refusal_of(made: onnx.ModelProto | bytes, folder: Path) -> str:
    path = folder / "model.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    return refused(path)


def small() -> onnx.ModelProto:
    """A valid model with one of most things in it."""
    nodes = [
        *(node("Conv", "x k b", "c", strides=[2, 1], pads=[1, 0, 1, 1]), node("BatchNormalization", "c s t m v", "n")),
        *(node("Relu", "n", "r"), node("MaxPool", "r", "p", kernel_shape=[2, 2], auto_pad="SAME_UPPER")),
        *(node("Constant", "", "shape", value_ints=[-1, 48]), node("Reshape", "p shape", "f")),
        *(node("Gemm", "f w", "g", transB=1), node("Softmax", "g", "y", axis=1)),
    ]
    constants: Arrays = {"k": floats(3, 2, 3, 3), "b": floats(3), "w": floats(4, 48)}
    norm: Arrays = {"s": floats(3), "t": floats(3), "m": floats(3), "v": np.abs(floats(3))}
    return model(nodes, ("n", 2, 8, 5), {**constants, **norm})


CONTENTS = {
    "empty": (b"", "not an ONNX file"),
    "text": (b"a network\n", "not a whole ONNX file"),
    "an array": (b"\x93NUMPY\x01\x00", "not a whole ONNX file"),
    "a zip file": (b"PK\x03\x04" + bytes(60), "not a whole ONNX file"),
    "a pickle": (b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x94.", "not a whole ONNX file"),
    "JSON": (b'{"schema_version": 2}', "not a whole ONNX file"),
    "zeros": (bytes(1000), "not a whole ONNX file"),
    "no graph": (helper.make_model(helper.make_graph([], "g", [], [])).SerializeToString(), "without a graph"),
}


@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_no_onnx_file_is_named(content: str, tmp_path: Path) -> None:
    given_bytes, reason = CONTENTS[content]
    assert reason in refusal_of(given_bytes, tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_named(share: float, tmp_path: Path) -> None:
    content = small().SerializeToString()
    refusal_of(content[: int(share * len(content))], tmp_path)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "absent.onnx")
    folder = tmp_path / "folder.onnx"
    folder.mkdir()
    assert "cannot be read" in refused(folder)
    huge = tmp_path / "huge.onnx"
    with huge.open("wb") as file:
        file.truncate((1 << 31) + 1)
    assert "larger than" in refused(huge)


def test_unsupported_operators_are_named_together_with_what_is_supported(tmp_path: Path) -> None:
    nodes = [node("Sigmoid", "x", "b"), node("Tanh", "b", "c"), node("Sigmoid", "c", "a"), *FLAT]
    line = refusal_of(model(nodes, IMAGE), tmp_path)
    assert line.startswith("not supported: Sigmoid ('the_b'), Tanh ('the_c'); supported are: Add, AveragePool, ")
    many = [node(f"Strange{index}", "x", f"v{index}") for index in range(12)]
    joined = node("Concat", " ".join(f"v{index}" for index in range(12)), "y", axis=1)
    assert "Strange9 ('the_v9') and 3 more; supported are: " in refusal_of(model([*many, joined], IMAGE), tmp_path)


def test_a_graph_has_one_input_and_one_output(tmp_path: Path) -> None:
    made = model([node("Add", "x z", "y")], (1, 18))
    made.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, (1, 18)))
    assert "2 inputs (x, z)" in refusal_of(made, tmp_path)
    del made.graph.input[:]
    assert "0 inputs" in refusal_of(made, tmp_path)
    made = model([node("Gemm", "x w b", "y")], (1, 18), FC)
    made.graph.output.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, None))
    assert "2 outputs (y, x)" in refusal_of(made, tmp_path)
    del made.graph.output[:]
    assert "0 outputs" in refusal_of(made, tmp_path)


def test_an_input_has_a_shape_and_is_of_floats(tmp_path: Path) -> None:
    made = model([node("Gemm", "x w b", "y")], (1, 18), FC)
    made.graph.input[0].type.tensor_type.ClearField("shape")
    assert "no tensor of a known shape" in refusal_of(made, tmp_path)
    made.graph.input[0].type.Clear()
    assert "no tensor of a known shape" in refusal_of(made, tmp_path)
    made = model([node("Div", "x c", "y")], (1, 18), {"c": np.int64(2)}, kind=TensorProto.INT64)
    assert "INT64" in refusal_of(made, tmp_path)
    cast = [node("Cast", "x", "c", to=TensorProto.FLOAT), node("Relu", "c", "y")]
    assert imported(model(cast, (1, 18), kind=TensorProto.UINT8), tmp_path).trained.network.layers


def test_an_opset_is_stated_once(tmp_path: Path) -> None:
    made = model([node("Gemm", "x w b", "y")], (1, 18), FC)
    made.opset_import.append(helper.make_opsetid("ai.onnx", 11))
    assert "opset 13, 11" in refusal_of(made, tmp_path)
    del made.opset_import[:]
    assert "opset none" in refusal_of(made, tmp_path)


def _short(tensor: onnx.TensorProto) -> None:
    tensor.raw_data = tensor.raw_data[:-1]


def _of_type(kind: int) -> Callable[[onnx.TensorProto], None]:
    return lambda tensor: setattr(tensor, "data_type", kind)


def _of_dims(*dims: int) -> Callable[[onnx.TensorProto], None]:
    def change(tensor: onnx.TensorProto) -> None:
        del tensor.dims[:]
        tensor.dims.extend(dims)

    return change


@pytest.mark.parametrize(
    "damage",
    [
        *(_short, _of_type(0), _of_type(99), _of_type(TensorProto.STRING), _of_type(TensorProto.COMPLEX64)),
        *(_of_dims(), _of_dims(17, 3), _of_dims(-18, -3), _of_dims(1 << 40, 1 << 40), _of_dims(1 << 62, 3)),
        _of_dims(*[1] * 70),
    ],
)
def test_a_damaged_initializer_is_named(damage: Callable[[onnx.TensorProto], None], tmp_path: Path) -> None:
    made = model([node("Gemm", "x w b", "y")], (1, 18), FC)
    damage(made.graph.initializer[0])
    assert "Gemm ('the_y')" in refusal_of(made, tmp_path)


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "absent"},
        {"location": "../secret"},
        {"location": "/etc/passwd"},
        {"location": "linked"},
        {"location": ""},
        {},
        {"location": "."},
        {"location": "beside\n\x1b[31m"},
        {"location": "beside", "length": "-1"},
        {"location": "beside", "length": "many"},
        {"location": "beside", "length": "1" + "0" * 5000},
        {"location": "beside", "offset": "-1"},
        {"location": "beside", "offset": str(1 << 62)},
        {"location": "beside", "offset": "8"},
    ],
)
def test_weights_beside_the_file_are_whole_and_nowhere_else(entries: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "network"
    folder.mkdir()
    (folder / "beside").write_bytes(bytes(18 * 3 * 4))
    (tmp_path / "secret").write_bytes(bytes(18 * 3 * 4))
    (folder / "linked").symlink_to(tmp_path / "secret")
    made = model([node("Gemm", "x w b", "y")], (1, 18), FC)
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    refusal_of(made, folder)


def test_too_much_beside_the_file_is_refused_unread(tmp_path: Path) -> None:
    made = model([node("Gemm", "x w b", "y")], (1, 18), FC)
    external_data_helper.convert_model_to_external_data(made, location="beside", size_threshold=0)
    onnx.save(made, tmp_path / "model.onnx")
    with (tmp_path / "beside").open("r+b") as file:
        file.truncate(1 << 32)
    for tensor in (stored := onnx.load(tmp_path / "model.onnx", load_external_data=False)).graph.initializer:
        kept = [entry for entry in tensor.external_data if entry.key == "location"]
        del tensor.external_data[:]
        tensor.external_data.extend(kept)
    assert "more than 2147483648 bytes" in refusal_of(stored, tmp_path)


NAME = 'a\r\nTraceback "\x1b[31m\u202e\x00' + "x" * 5000


def test_names_cannot_steer_a_terminal_or_break_a_line(tmp_path: Path) -> None:
    made = model([node("Sigmoid", "x", "a"), *FLAT], IMAGE)
    made.graph.node[0].name = NAME
    made.graph.node[0].op_type = NAME
    refusal_of(made, tmp_path)
    made = model([node("Relu", "x", "a"), *FLAT], (1, 2, NAME, 5))
    refusal_of(made, tmp_path)
    made = model([node("Add", "x c", "a"), *FLAT], IMAGE)
    made.graph.node[0].input[1] = NAME
    refusal_of(made, tmp_path)
    made = model([node("Relu", "x", "a"), *FLAT], IMAGE)
    made.graph.output.add(name=NAME)
    refusal_of(made, tmp_path)


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    made = model([node("Relu", "x", "aaaaaaaa"), node("Flatten", "aaaaaaaa", "y")], IMAGE)
    refusal_of(made.SerializeToString().replace(b"aaaaaaaa", b"\xff" * 8), tmp_path)


SMALL = small().SerializeToString()


def test_the_file_that_is_damaged_below_is_whole(tmp_path: Path) -> None:
    assert refusal(small(), tmp_path) == ""


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.integers(0, len(SMALL) - 1),
    removed=st.integers(0, 3),
    put=st.binary(max_size=3),
    more=st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), max_size=3),
)
@example(at=0, removed=0, put=b"", more=[])
def test_whichever_bytes_change_it_is_a_network_or_one_line(
    tmp_path: Path, at: int, removed: int, put: bytes, more: list[tuple[int, int]]
) -> None:
    content = bytearray(SMALL)
    for place, value in more:
        content[place] = value
    content[at : at + removed] = put
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    try:
        found = onnx_import.load(path)
    except BadInput:
        refused(path)
    else:
        assert found.trained.network.layers


def test_a_damaged_constant_of_a_node_is_named(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(floats(3))
    tensor.dims[0] = 1 << 40
    nodes = [node("Constant", "", "c", value=tensor), node("Add", "x c", "a"), *FLAT]
    assert "Constant ('the_c')" in refusal_of(model(nodes, IMAGE), tmp_path)
