"""Networks from ONNX files: a file is checked, and its nodes are handed to the handlers of their operators, in order.

The values on the way are either arrays, which do not depend on the image, or `Value`s, which do.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from autoprivacy.common.errors import BadInput
from autoprivacy.common.files import read_bytes
from autoprivacy.networks.graph import Shape
from autoprivacy.networks.importing.builder import Array, Imported, NetworkBuilder, Value, move, reshape
from autoprivacy.networks.importing.errors import naming, refuse_unsupported
from autoprivacy.networks.importing.onnx_constants import (
    COMPUTED,
    LARGEST_FILE_BYTES,
    Evaluator,
    load_external,
    refusing_damage,
    stored,
)
from autoprivacy.networks.importing.onnx_operators import KEEPING_VALUES, OPERATORS, SHAPE_OF, Node, is_float

if TYPE_CHECKING:
    import onnx

OPSETS: Final = range(7, 26)
"""The versions of ONNX's operators whose definitions the handlers follow."""

STANDARD_DOMAINS: Final = ("", "ai.onnx")


def load(path: Path) -> Imported:
    """The network of an ONNX file, as one that takes (C, H, W) or, if the file does, (H, W, C).

    Raises:
        BadInput: one line that names the file, the node and what about it is not supported.
    """
    with naming(str(path)):
        model = _read(path)
        load_external(model.graph, path.parent)
        return _import(model, path.stem)


def _read(path: Path) -> "onnx.ModelProto":
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    with suppress(OSError):  # what cannot be looked at cannot be read either, which says why
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise BadInput(f"larger than {LARGEST_FILE_BYTES} bytes, which no ONNX file is")
    content = read_bytes(path)
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError) as error:
        raise BadInput(f"not a whole ONNX file ({error}); export it again") from None
    if not model.HasField("graph") or not model.graph.node:
        raise BadInput("not an ONNX file, or one without a graph; export it again")
    _check_names(model.graph)
    return model


def _check_names(graph: "onnx.GraphProto") -> None:
    """Refuse what protobuf lets pass: names that are not UTF-8, which it hands out as bytes."""
    for node in graph.node:
        names = (node.name, node.op_type, node.domain, *node.input, *node.output)
        if not all(isinstance(name, str) for name in names):
            raise BadInput(f"the names of a node, {names}, are not text; the file is damaged")
    for info in (*graph.input, *graph.output):
        names = (info.name, *(dim.dim_param for dim in info.type.tensor_type.shape.dim))
        if not all(isinstance(name, str) for name in names):
            raise BadInput(f"the names of an input or output, {names}, are not text; the file is damaged")


def _import(model: "onnx.ModelProto", name: str) -> Imported:
    graph = model.graph
    if len(graph.output) != 1:
        raise BadInput(f"it has {len(graph.output)} outputs ({_listed(graph.output)}); keep the one with the logits")
    opset = _opset(model)
    nodes = _needed(graph)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    images, shape, source = _input(graph, nodes, constants)
    _check_operators(nodes, source)
    channels_last = _is_channels_last(nodes, source)
    builder, value = _start(shape, channels_last=channels_last)
    walk = _Walk(builder, Evaluator(opset), opset, images, constants, _tail(nodes, graph.output[0].name))
    walk.values[source] = value
    for index, node in nodes:
        walk.visit(index, node)
    found = walk.values[graph.output[0].name]
    if not isinstance(found, Value):
        raise BadInput("its output does not depend on its input")
    return builder.finish(name, found, channels_last=channels_last)


def _opset(model: "onnx.ModelProto") -> int:
    versions = [int(entry.version) for entry in model.opset_import if entry.domain in STANDARD_DOMAINS]
    if len(set(versions)) != 1 or versions[0] not in OPSETS:
        shown = ", ".join(str(version) for version in versions) or "none"
        raise BadInput(f"it uses opset {shown}; export it with one of {OPSETS[0]} to {OPSETS[-1]}")
    return versions[0]


def _needed(graph: "onnx.GraphProto") -> list[tuple[int, "onnx.NodeProto"]]:
    """The nodes on which the output depends, each with its place in the file, in the order of the file."""
    producers: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for name in node.output:
            if name and producers.setdefault(name, index) != index:
                raise BadInput(f"value {name!r} is written by two nodes; export it again")
    wanted, found = [graph.output[0].name], set[int]()
    while wanted:
        producer = producers.get(wanted.pop())
        if producer is not None and producer not in found:
            found.add(producer)
            wanted += graph.node[producer].input
    return [(index, graph.node[index]) for index in sorted(found)]


Nodes = Sequence[tuple[int, "onnx.NodeProto"]]


def _input(
    graph: "onnx.GraphProto", nodes: Nodes, constants: Mapping[str, "onnx.TensorProto"]
) -> tuple[int, Shape, str]:
    """How many images the graph takes at once, the shape of each, and the input's name."""
    read = {name for _, node in nodes for name in node.input}
    inputs = [info for info in graph.input if info.name in read and info.name not in constants]
    if len(inputs) != 1:
        raise BadInput(f"it has {len(inputs)} inputs ({_listed(inputs)}); one, of images, is supported")
    info = inputs[0]
    if not info.type.HasField("tensor_type") or not info.type.tensor_type.HasField("shape"):
        raise BadInput(f"its input {info.name!r} is no tensor of a known shape; export it with one")
    dims = info.type.tensor_type.shape.dim
    sizes = tuple(dim.dim_value if dim.HasField("dim_value") else 0 for dim in dims)
    if not 2 <= len(sizes) <= 4 or min(sizes[1:]) < 1:
        shown = ", ".join(str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?" for dim in dims)
        raise BadInput(f"its input {info.name!r} has the shape ({shown}); export it with (N, C, H, W), C to W fixed")
    if not is_float(info.type.tensor_type.elem_type):
        _check_casts(info, nodes)
    return max(sizes[0], 1), sizes[1:], info.name


def _check_casts(info: "onnx.ValueInfoProto", nodes: Nodes) -> None:
    """Refuse to compute with an input of integers in their own arithmetic: a cast must come first."""
    from onnx import TensorProto

    for index, node in nodes:
        if info.name in node.input and node.op_type != "Cast":
            kinds = {number: name for name, number in TensorProto.DataType.items()}
            kind = kinds.get(info.type.tensor_type.elem_type, "of no known type")
            raise BadInput(
                f"its input {info.name!r} is {kind}, and {node.op_type} ({_where(index, node)}) reads it as such; "
                "export it with one of FLOAT, or with a Cast first"
            )


def _check_operators(nodes: Nodes, source: str) -> None:
    """Refuse a graph with operators that there is no handler for, naming all of them."""
    changing = {source}
    unsupported: dict[str, str] = {}
    for index, node in nodes:
        changes = not changing.isdisjoint(node.input)
        if node.domain not in STANDARD_DOMAINS or node.op_type not in (OPERATORS if changes else COMPUTED):
            operator = node.op_type if node.domain in STANDARD_DOMAINS else f"{node.domain}.{node.op_type}"
            unsupported.setdefault(operator, f"{operator} ({_where(index, node)})")
        if changes and node.op_type not in SHAPE_OF:
            changing.update(name for name in node.output if name)
    refuse_unsupported(unsupported, OPERATORS)


def _is_channels_last(nodes: Nodes, source: str) -> bool:
    """Whether the first thing that is done to an image, but for scaling it, is to move its channels to the front."""
    for _, node in nodes:
        if source in node.input:
            if node.op_type == "Transpose":
                return [number for attribute in node.attribute for number in attribute.ints] == [0, 3, 1, 2]
            if node.op_type not in {"Add", "Cast", "Div", "Identity", "Mul", "Sub"}:
                return False
            source = node.output[0]
    return False


def _start(shape: Shape, *, channels_last: bool) -> tuple[NetworkBuilder, Value]:
    """A builder for images of this shape, and its input as the graph sees it."""
    if channels_last and len(shape) == 3:
        builder = NetworkBuilder((shape[2], shape[0], shape[1]))
        return builder, move(builder.input, lambda positions: positions.transpose(0, 2, 3, 1))
    first, second, third = (*(1,) * (3 - len(shape)), *shape)
    builder = NetworkBuilder((first, second, third))
    if len(shape) < 3:
        builder.notes.append(f"its input has the shape {shape} per image: the network takes {(first, second, third)}")
    return builder, reshape(builder.input, shape)


def _tail(nodes: Nodes, output: str) -> set[str]:
    """The output, and the values that nothing but their shape tells from it."""
    tail = {output}
    for _, node in reversed(nodes):
        if node.op_type in KEEPING_VALUES and not tail.isdisjoint(node.output):
            tail.update(node.input[:1])
    return tail


class _Walk:
    """The values of the graph so far, from which those of the next node follow."""

    def __init__(
        self,
        builder: NetworkBuilder,
        evaluator: Evaluator,
        opset: int,
        images: int,
        constants: Mapping[str, "onnx.TensorProto"],
        tail: set[str],
    ) -> None:
        self._builder, self._evaluator, self._opset, self._images = builder, evaluator, opset, images
        self._constants = constants
        self._tail = tail
        self.values: dict[str, Value | Array] = {}

    def visit(self, index: int, proto: "onnx.NodeProto") -> None:
        """Find the outputs of the next node."""
        with naming(f"{proto.op_type} ({_where(index, proto)})"):
            self._check(proto)
            inputs = [self._value(name) for name in proto.input]
            constants = [values for values in inputs if not isinstance(values, Value)]
            if len(constants) == len(inputs):
                found: Sequence[Value | Array] = self._evaluator.compute(proto, constants)
            else:
                name = proto.name or f"{proto.op_type.lower()}_{index}"
                ends = proto.output[0] in self._tail
                node = Node(proto, name, tuple(inputs), self._opset, self._images, self._evaluator, ends=ends)
                found = [OPERATORS[proto.op_type](node, self._builder)]
        self.values.update(zip(proto.output, found, strict=False))

    def _check(self, proto: "onnx.NodeProto") -> None:
        """Let ONNX's own schema say whether the node has the inputs and attributes that its operator has."""
        from onnx import checker

        context = checker.C.CheckerContext()
        context.ir_version = 10
        context.opset_imports = {"": self._opset}
        with refusing_damage():
            checker.check_node(proto, context)

    def _value(self, name: str) -> Value | Array | None:
        if not name:
            return None
        if name not in self.values:
            if name not in self._constants:
                raise BadInput(f"its input {name!r} is neither an initializer nor the first output of an earlier node")
            self.values[name] = stored(self._constants[name], name)
        return self.values[name]


def _where(index: int, node: "onnx.NodeProto") -> str:
    return repr(node.name) if node.name else f"node {index}, output {', '.join(node.output)!r}"


def _listed(infos: Sequence["onnx.ValueInfoProto"]) -> str:
    names = [info.name for info in infos]
    return ", ".join(names[:8] + ["..."] * (len(names) > 8))
