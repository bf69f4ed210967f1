"""ONNX files for tests: put together node by node, and run by onnxruntime."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from autoprivacy.common.errors import BadInput
from autoprivacy.networks.importing import onnx_import
from autoprivacy.networks.importing.builder import Imported

Arrays = Mapping[str, ArrayLike]


_RNG = np.random.default_rng(0)


def floats(*shape: int) -> NDArray[np.float32]:
    """Random weights, others at every call."""
    return _RNG.normal(size=shape).astype(np.float32)


def ints(*values: int) -> NDArray[np.int64]:
    """A list as ONNX takes sizes and axes."""
    return np.array(values, dtype=np.int64)


def node(operator: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    """One node; `inputs` and `output` are names between blanks, '-' an input that is left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(operator, names, output.split(), name=f"the_{output.split(maxsplit=1)[0]}", **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str],
    constants: Arrays | None = None,
    *,
    opset: int = 13,
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A graph from the input x, of that shape with the images' axis, to the output y."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def imported(made: onnx.ModelProto, folder: Path) -> Imported:
    """What the importer makes of a model that was written to a file."""
    path = folder / "model.onnx"
    path.write_bytes(made.SerializeToString())
    return onnx_import.load(path)


def refusal(made: onnx.ModelProto, folder: Path) -> str:
    """Why the importer refuses a model that was written to a file; nothing if it takes it."""
    try:
        imported(made, folder)
    except BadInput as error:
        return str(error)
    return ""


def outputs(made: onnx.ModelProto, x: NDArray[Any]) -> NDArray[Any]:
    """What onnxruntime computes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: NDArray[Any] = session.run(None, {session.get_inputs()[0].name: x})[0]
    return found


def images(made: onnx.ModelProto, seed: int = 0) -> NDArray[np.float32]:
    """Random images, as many as the model takes, or two."""
    sizes = [dim.dim_value or 2 for dim in made.graph.input[0].type.tensor_type.shape.dim]
    return np.random.default_rng(seed).normal(size=sizes).astype(np.float32)


def check(made: onnx.ModelProto, folder: Path) -> Imported:
    """Import a model, and check that it computes what onnxruntime says."""
    found = imported(made, folder)
    x = images(made)
    wanted = outputs(made, x)
    network = found.trained.network
    given = x if network.channels_last else x.reshape(-1, *network.input_shape)
    np.testing.assert_allclose(found.trained.run(given), wanted.reshape(len(x), -1), rtol=0, atol=1e-4)
    return found


def kinds(found: Imported) -> list[str]:
    """The kinds of the layers, in order."""
    return [layer.kind for layer in found.trained.network.layers]


FLAT = [node("Flatten", "a", "y")]
"""Makes the network's result of `a`."""

FC: Arrays = {"w": floats(18, 3), "b": floats(3)}
"""For a fully connected layer on 18 features."""
