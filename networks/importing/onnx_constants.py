"""The constants of an ONNX file: stored beside the graph or computed in it, within bounds.

Exporters compute shapes and prepare weights by operators on constants. What such operators make is worked out once, by
ONNX's reference evaluator, unless it would fill the memory.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from autoprivacy.common.errors import BadInput
from autoprivacy.networks.importing.builder import Array

if TYPE_CHECKING:
    import onnx

LARGEST_FILE_BYTES: Final = 1 << 31
"""Neither a file nor all that is stored beside it may be larger: protobuf's own limit."""

MOST_COMPUTED: Final = 1 << 28
"""How many values the operators on constants of one file may make in all."""

_ELEMENTWISE: Final = frozenset(
    ("Abs", "Add", "Ceil", "Div", "Equal", "Exp", "Floor", "Max", "Min", "Mul", "Neg", "Not", "Pow", "Reciprocal")
) | frozenset(("Sqrt", "Sub", "Where"))

COMPUTED: Final = (
    _ELEMENTWISE
    | frozenset(
        (
            "Cast",
            "Concat",
            "Constant",
            "ConstantOfShape",
            "Expand",
            "Flatten",
            "Gather",
            "Identity",
            "Range",
            "ReduceProd",
        )
    )
    | frozenset(("Reshape", "Shape", "Size", "Slice", "Squeeze", "Transpose", "Unsqueeze"))
)
"""The operators that are worked out if all that they read is constant."""


class Evaluator:
    """Works out single nodes of a graph by ONNX's own definition of their operators."""

    def __init__(self, opset: int) -> None:
        self._opset = opset
        self._left = MOST_COMPUTED

    def compute(self, node: "onnx.NodeProto", inputs: Sequence[Array | None]) -> list[Array]:
        """The outputs of a node of one of the operators of `COMPUTED`.

        Raises:
            BadInput: if they would be too large, or the node does not fit its inputs.
        """
        with refusing_damage():
            self._left -= _size(node.op_type, [values for values in inputs if values is not None])
        if self._left < 0:
            raise BadInput(
                f"it makes a tensor, or adds to tensors, of more than {MOST_COMPUTED} values; export it smaller"
            )
        return self.apply(node, inputs)

    def apply(self, node: "onnx.NodeProto", inputs: Sequence[Array | None]) -> list[Array]:
        """The outputs of a node whose operator makes no more values than it reads.

        Raises:
            BadInput: if the node does not fit its inputs.
        """
        from onnx import helper
        from onnx.reference import ReferenceEvaluator

        given = {name: values for name, values in zip(node.input, inputs, strict=True) if values is not None}
        graph = helper.make_graph(
            [node],
            "one node",
            [helper.make_empty_tensor_value_info(name) for name in given],
            [helper.make_empty_tensor_value_info(name) for name in node.output if name],
        )
        with refusing_damage(), np.errstate(all="ignore"):
            return [np.asarray(found) for found in ReferenceEvaluator(graph, {"": self._opset}).run(None, given)]


def _size(operator: str, inputs: Sequence[Array]) -> int:
    """At least as many values as an operator of `COMPUTED` makes of these inputs."""
    if operator in _ELEMENTWISE:
        return prod(np.broadcast_shapes(*(values.shape for values in inputs)))
    match operator:
        case "ConstantOfShape":
            return prod(int(size) for size in inputs[0])
        case "Expand":
            return prod(np.broadcast_shapes(inputs[0].shape, tuple(int(size) for size in inputs[1])))
        case "Range":
            start, limit, step = (float(values) for values in inputs)
            return int((limit - start) / step) + 1
        case "Gather":
            return inputs[0].size * inputs[1].size
        case _:
            return sum(values.size for values in inputs)


@contextmanager
def refusing_damage() -> Iterator[None]:
    """Turn what the ONNX package and numpy raise on files that are damaged or not valid into one line."""
    from onnx.checker import ValidationError

    try:
        yield
    except (
        *(ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError),
        ValidationError,
    ) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BadInput(f"not valid ONNX ({lines[0][:200]})") from None


def stored(tensor: "onnx.TensorProto", name: str) -> Array:
    """The values of a tensor of the file.

    Raises:
        BadInput: naming it, if it is damaged.
    """
    from onnx import numpy_helper

    try:
        with refusing_damage():
            return numpy_helper.to_array(tensor)
    except BadInput as error:
        raise BadInput(f"initializer {name!r}: {error}") from None


def load_external(graph: "onnx.GraphProto", folder: Path) -> None:
    """Read into the graph the tensors that are stored in other files of its folder, and in no other place.

    Raises:
        BadInput: naming the tensor that cannot be read, or lies elsewhere.
    """
    from onnx import external_data_helper

    in_nodes = (attribute.t for node in graph.node for attribute in node.attribute if attribute.HasField("t"))
    left = LARGEST_FILE_BYTES
    for tensor in (*graph.initializer, *in_nodes):
        if not external_data_helper.uses_external_data(tensor):
            continue
        try:
            with refusing_damage():
                left -= _external_bytes(tensor, folder)
                if left >= 0:
                    external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        except BadInput as error:
            raise BadInput(f"tensor {tensor.name!r} is stored in another file: {error}") from None
        if left < 0:
            raise BadInput(f"the tensors stored in other files have more than {LARGEST_FILE_BYTES} bytes")


def _external_bytes(tensor: "onnx.TensorProto", folder: Path) -> int:
    """How many bytes will be read for it; where they lie is checked by who reads them."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    size = int((folder / entries.get("location", "")).stat().st_size)
    return min(size, int(entries.get("length", size)))
