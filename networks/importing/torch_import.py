"""Networks from PyTorch modules: `torch.export` traces one, and its operators are handed to their handlers, in order.

Whatever way a module says it (`nn.ReLU()(x)`, `F.relu(x)`, `x.relu_()`), the trace says it in one: as functions of the
ATen library, without side effects. What does not depend on the image is computed by torch itself.
"""

import operator
import warnings
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from autoprivacy.common.errors import BadInput
from autoprivacy.networks.importing.builder import Imported, NetworkBuilder, Value
from autoprivacy.networks.importing.errors import naming, refuse_unsupported
from autoprivacy.networks.importing.torch_operators import IMAGES, OPERATORS, Call

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram
    from torch.fx import Node


def convert(module: "torch.nn.Module", input_shape: tuple[int, int, int], name: str) -> Imported:
    """The network that a module computes in evaluation mode; the module stays as it is.

    Args:
        module: takes images (N, C, H, W) and gives logits (N, classes).
        input_shape: (C, H, W) of one image.
        name: of the network.

    Raises:
        BadInput: naming the operator, and where in the module it is, that is not supported; or why it cannot be traced.
    """
    import torch

    if len(input_shape) != 3 or min(input_shape) < 1:
        raise BadInput(f"network {name!r}: input_shape {input_shape} must be (C, H, W), all positive")
    with naming(f"network {name!r}"), torch.no_grad():
        program = _trace(module, input_shape)
        return _import(module, program, NetworkBuilder(input_shape), name)


def _trace(module: "torch.nn.Module", input_shape: tuple[int, int, int]) -> "ExportedProgram":
    import torch

    stored = (*module.named_parameters(), *module.named_buffers())
    if empty := next((path for path, values in stored if values.is_meta), None):
        raise BadInput(f"{empty!r} is on the meta device, without values; load its weights first")
    first = next((given for given in module.parameters() if given.is_floating_point()), torch.zeros(0))
    images = torch.zeros(IMAGES, *input_shape, dtype=first.dtype, device=first.device)
    modes = {part: part.training for part in module.modules()}
    try:
        module.eval()
        with warnings.catch_warnings():
            # From within torch, about its own use of itself.
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            # An empty table decomposes nothing, but replaces operators that write to their input.
            program: ExportedProgram = torch.export.export(module, (images,), strict=False).run_decompositions({})
            return program
    except Exception as error:  # noqa: BLE001 - a module's own code can raise anything
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BadInput(
            f"torch.export cannot trace this {type(module).__name__} for images of shape {input_shape} "
            f"({lines[0][:300]}); it must compute without control flow that depends on the image"
        ) from None
    finally:
        for part, training in modes.items():
            part.training = training


def _import(module: "torch.nn.Module", program: "ExportedProgram", builder: NetworkBuilder, name: str) -> Imported:
    signature = program.graph_signature
    if len(signature.user_inputs) != 1 or len(signature.user_outputs) != 1:
        raise BadInput(
            f"{len(signature.user_inputs)} inputs and {len(signature.user_outputs)} outputs; one of each is supported"
        )
    source, output = signature.user_inputs[0], signature.user_outputs[0]
    leaves = {path for path, part in module.named_modules() if path and not list(part.children())}
    _check_operators(program, source, leaves)
    values: dict[str, Any] = {source: builder.input}
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name != source:
            values[node.name] = _stored(program, node.name)
        elif _computes(node):
            values[node.name] = _visit(node, values, builder, leaves, ends=node.name == output)
    found = values.get(str(output))
    if not isinstance(found, Value):
        raise BadInput("its output is no tensor that depends on its input")
    return builder.finish(name, found)


def _computes(node: "Node") -> bool:
    """Whether a node is a call whose result is read: the others only assert something, for nothing has side effects."""
    return node.op == "call_function" and bool(node.users)


def _stored(program: "ExportedProgram", name: str) -> object:
    """The parameter, buffer or constant that a trace's input stands for."""
    signature = program.graph_signature
    target = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }[name]
    return program.state_dict[target] if target in program.state_dict else program.constants[target]


def _check_operators(program: "ExportedProgram", source: object, leaves: AbstractSet[str]) -> None:
    """Refuse a trace with operators that there is no handler for, naming all of them."""
    changing = {source}
    unsupported: dict[str, str] = {}
    for node in program.graph.nodes:
        if _computes(node) and any(given.name in changing for given in node.all_input_nodes):
            changing.add(node.name)
            kind = _operator(node)
            if kind not in OPERATORS and node.target is not operator.getitem:
                unsupported.setdefault(kind, f"{kind} ({_layer_name(node, leaves)!r})")
    refuse_unsupported(unsupported, OPERATORS)


def _visit(
    node: "Node", values: Mapping[str, Any], builder: NetworkBuilder, leaves: AbstractSet[str], *, ends: bool
) -> object:
    """What an operator of the trace gives: a `Value`, or what torch computes if nothing depends on the image."""
    from torch.fx.node import map_arg

    target: Any = node.target
    given: Any = map_arg((node.args, node.kwargs), lambda argument: values[argument.name])
    positional, named = given
    if not any(isinstance(values[argument.name], Value | tuple) for argument in node.all_input_nodes):
        return target(*positional, **named)
    name = _layer_name(node, leaves)
    if target is operator.getitem:
        return positional[0][positional[1]]
    arguments = {argument.name: argument.default_value for argument in target._schema.arguments}  # noqa: SLF001 - no other way
    arguments |= dict(zip(arguments, positional, strict=False)) | named
    with naming(f"{_operator(node)} ({name!r})"):
        return OPERATORS[_operator(node)](Call(target, name, arguments, ends), builder)


def _operator(node: "Node") -> str:
    """The name of an ATen function, without that of the overload."""
    packet = getattr(node.target, "overloadpacket", node.target)
    return str(getattr(packet, "__name__", packet))


def _layer_name(node: "Node", leaves: AbstractSet[str]) -> str:
    """The name of the submodule that is computed, or else of the function."""
    stack = node.meta.get("nn_module_stack") or {}
    path = str(list(stack.values())[-1][0]) if stack else ""
    return path if path in leaves else node.name
