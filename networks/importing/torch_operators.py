"""What each function of PyTorch's ATen library does, in the terms of a `NetworkBuilder`.

To support one more, add it to `OPERATORS`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import BadInput
from autoprivacy.networks.convolution import Floats
from autoprivacy.networks.graph import AvgPool, MaxPool, Padding, Pair
from autoprivacy.networks.importing.builder import NO_PADDING, NetworkBuilder, Value, ceiled, move, reshape

IMAGES: Final = 2
"""How many images a module is traced with: with two, what mixes images shows."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of an ATen function: its arguments by the names that its schema gives them."""

    target: Callable[..., Any]
    name: str
    arguments: Mapping[str, Any]
    ends: bool

    def value(self, argument: str) -> Value:
        """An argument that depends on the image."""
        found = self.arguments[argument]
        if not isinstance(found, Value):
            raise BadInput(f"its argument {argument!r} is constant, which is not supported")
        return found

    def floats(self, argument: str) -> Floats:
        """A constant tensor or number in float32."""
        with np.errstate(over="ignore", under="ignore"):
            found = _doubles(self.arguments[argument], argument).astype(np.float32)
        if not np.isfinite(found).all():
            raise BadInput(f"its {argument} holds values that are not finite; train again")
        return found

    def optional(self, argument: str) -> Floats | None:
        """A constant tensor, or None."""
        return None if self.arguments[argument] is None else self.floats(argument)

    def pair(self, argument: str) -> Pair:
        """One number, or two, along the height and the width."""
        given = self.arguments[argument]
        numbers = [given] if isinstance(given, int) else list(given)
        if len(numbers) not in {1, 2}:
            raise BadInput(f"{argument} {numbers} is that of {len(numbers)} dimensions; only 2D is supported")
        return numbers[0], numbers[-1]


def _doubles(given: Any, argument: str) -> NDArray[np.float64]:  # noqa: ANN401 - whatever a call was given
    import torch

    if isinstance(given, Value):
        raise BadInput(f"its {argument} depends on the image; it must be constant")
    return torch.as_tensor(given).detach().cpu().to(torch.float64).numpy()


def _conv2d(call: Call, to: NetworkBuilder) -> Value:
    value, weight, stride = call.value("input"), call.floats("weight"), call.pair("stride")
    if call.pair("dilation") != (1, 1):
        raise BadInput(f"dilation {call.pair('dilation')} is not supported; only 1")
    padding: Padding = NO_PADDING
    if call.arguments["padding"] == "same":
        before, after = zip(*(((size - 1) // 2, size // 2) for size in weight.shape[2:]), strict=True)
        padding = (*before, *after)
    elif call.arguments["padding"] != "valid":
        padding = call.pair("padding") * 2
    groups = call.arguments["groups"]
    return to.convolve(call.name, value, weight, call.optional("bias"), stride=stride, padding=padding, groups=groups)


def _linear(call: Call, to: NetworkBuilder) -> Value:
    return to.connect(call.name, call.value("input"), call.floats("weight"), call.optional("bias"))


def _matmul(call: Call, to: NetworkBuilder) -> Value:
    other = "other" if "other" in call.arguments else "mat2"
    return to.connect(call.name, call.value("self"), call.floats(other).T, None)


def _batch_norm(call: Call, to: NetworkBuilder) -> Value:
    value = call.value("input")
    if call.arguments.get("training") or call.arguments.get("running_mean") is None:
        raise BadInput(
            "it normalises by the statistics of a batch; only recorded ones (track_running_stats) are supported"
        )
    channels = value.shape[:1]
    scale, shift = call.optional("weight"), call.optional("bias")
    statistics = [
        np.ones(channels, dtype=np.float32) if scale is None else scale,
        np.zeros(channels, dtype=np.float32) if shift is None else shift,
        call.floats("running_mean"),
        call.floats("running_var"),
    ]
    return to.normalise(call.name, value, statistics, call.arguments["eps"])


def _batch_norms(call: Call, to: NetworkBuilder) -> tuple[Value, None, None]:
    return _batch_norm(call, to), None, None


def _relu(call: Call, to: NetworkBuilder) -> Value:
    return to.clip(call.name, call.value("self"), 0, None)


def _relu6(call: Call, to: NetworkBuilder) -> Value:
    return to.clip(call.name, call.value("self"), 0, 6)


def _hardtanh(call: Call, to: NetworkBuilder) -> Value:
    return to.clip(call.name, call.value("self"), call.arguments["min_val"], call.arguments["max_val"])


def _clamp(call: Call, to: NetworkBuilder) -> Value:
    low, high = (call.arguments.get(bound) for bound in ("min", "max"))
    if not all(bound is None or isinstance(bound, int | float) for bound in (low, high)):
        raise BadInput("only bounds that are numbers are supported")
    return to.clip(call.name, call.value("self"), low, high)


def _pool_windows(call: Call) -> tuple[Pair, Pair, Padding, Padding]:
    """Kernel, stride and padding, and the padding with what ceil_mode adds to it."""
    value, kernel = call.value("self"), call.pair("kernel_size")
    if len(value.shape) != 3:
        raise BadInput(f"it pools a tensor of shape {value.shape} per image; only 2D pools of (C, H, W)")
    stride = call.pair("stride") if call.arguments["stride"] else kernel
    padding = call.pair("padding") * 2
    all_of_it = ceiled(value.shape[1:], kernel, stride, padding) if call.arguments["ceil_mode"] else padding
    return kernel, stride, padding, all_of_it


def _max_pool2d(call: Call, to: NetworkBuilder) -> Value:
    if call.pair("dilation") != (1, 1):
        raise BadInput(f"dilation {call.pair('dilation')} is not supported; only 1")
    kernel, stride, _, padding = _pool_windows(call)
    return to.pool(MaxPool, call.name, call.value("self"), kernel, stride, padding)


def _avg_pool2d(call: Call, to: NetworkBuilder) -> Value:
    kernel, stride, padding, all_of_it = _pool_windows(call)
    if call.arguments["divisor_override"] not in {None, kernel[0] * kernel[1]}:
        raise BadInput("divisor_override is not supported")
    if all_of_it != padding:
        raise BadInput("ceil_mode makes windows reach beyond the input, whose means are not supported; pad the input")
    if any(padding) and not call.arguments["count_include_pad"]:
        raise BadInput("padding that means leave out is not supported; set count_include_pad")
    return to.pool(AvgPool, call.name, call.value("self"), kernel, stride, padding)


def _adaptive_avg_pool2d(call: Call, to: NetworkBuilder) -> Value:
    return _adaptive(AvgPool, call, to)


def _adaptive_max_pool2d(call: Call, to: NetworkBuilder) -> tuple[Value, None]:
    return _adaptive(MaxPool, call, to), None


def _adaptive(kind: type[MaxPool] | type[AvgPool], call: Call, to: NetworkBuilder) -> Value:
    value, wanted = call.value("self"), call.pair("output_size")
    sizes = value.shape[1:]
    if len(sizes) != 2 or min(wanted) < 1 or any(size % out for size, out in zip(sizes, wanted, strict=True)):
        raise BadInput(f"from {value.shape} to {wanted} its windows would not be of one size, which is not supported")
    kernel = (sizes[0] // wanted[0], sizes[1] // wanted[1])
    return value if kernel == (1, 1) else to.pool(kind, call.name, value, kernel, kernel)


def _mean(call: Call, to: NetworkBuilder) -> Value:
    value, given = call.value("self"), call.arguments.get("dim")
    if not given:
        raise BadInput("it takes the mean of everything; only one over the height and the width is supported")
    axes = _axes(value, given)
    found = to.mean(call.name, value, axes)
    if call.arguments["keepdim"]:
        return found
    return reshape(found, tuple(size for axis, size in enumerate(found.shape) if axis not in axes))


def _axes(value: Value, given: Sequence[int]) -> list[int]:
    """Axes as axes of one image."""
    axes = [axis % (len(value.shape) + 1) - 1 for axis in given]
    if min(axes) < 0:
        raise BadInput(f"its axes {list(given)} have the images' among them; they must stay apart")
    return axes


def _add(call: Call, to: NetworkBuilder) -> Value:
    one, other = call.arguments["self"], call.arguments["other"]
    factor = _doubles(call.arguments.get("alpha", 1), "alpha")
    if isinstance(one, Value) and isinstance(other, Value):
        return to.add(call.name, [one, to.affine(call.name, other, factor, 0)])
    if isinstance(one, Value):
        return to.affine(call.name, one, 1, factor * _doubles(other, "other"))
    return to.affine(call.name, other, factor, _doubles(one, "self"))


def _sub(call: Call, to: NetworkBuilder) -> Value:
    factor = -_doubles(call.arguments.get("alpha", 1), "alpha")
    return _add(Call(call.target, call.name, {**call.arguments, "alpha": factor}, call.ends), to)


def _rsub(call: Call, to: NetworkBuilder) -> Value:
    swapped = {"self": call.arguments["other"], "other": call.arguments["self"]}
    return _sub(Call(call.target, call.name, {**call.arguments, **swapped}, call.ends), to)


def _mul(call: Call, to: NetworkBuilder) -> Value:
    one, other = call.arguments["self"], call.arguments["other"]
    if not isinstance(one, Value):
        one, other = other, one
    return to.affine(call.name, one, _doubles(other, "other"), 0)


def _div(call: Call, to: NetworkBuilder) -> Value:
    if call.arguments.get("rounding_mode") is not None:
        raise BadInput("rounding_mode is not supported")
    value = call.value("self")
    with np.errstate(all="ignore"):
        return to.affine(call.name, value, 1 / _doubles(call.arguments["other"], "other"), 0)


def _pad(call: Call, to: NetworkBuilder) -> Value:
    value, pads = call.value("self"), list(call.arguments["pad"])
    if call.arguments.get("mode", "constant") != "constant" or call.arguments["value"] not in {None, 0}:
        raise BadInput("only padding with zeros is supported")
    missing = [0] * (2 * len(value.shape) - len(pads))
    if len(pads) > 2 * len(value.shape):
        raise BadInput("it pads the axis of the images")
    pads = [*pads, *missing]
    return to.pad(call.name, value, pads[-2::-2], pads[::-2])


def _softmax(call: Call, to: NetworkBuilder) -> Value:
    value = call.value("self")
    axis = _axes(value, [call.arguments["dim"]])[0]
    return to.drop_softmax(call.name, value, axis, axis, ends=call.ends)


def _moved(call: Call, _: NetworkBuilder) -> Value:
    """Done by torch, to the places of the values."""
    import torch

    def change(places: NDArray[np.int64]) -> NDArray[np.int64]:
        moved: NDArray[np.int64] = call.target(**{**call.arguments, "self": torch.from_numpy(places)}).numpy()
        return moved

    return move(call.value("self"), change, IMAGES)


def _same_value(call: Call, _: NetworkBuilder) -> Value:
    return call.value("input" if "input" in call.arguments else "self")


def _to_type(call: Call, _: NetworkBuilder) -> Value:
    wanted = call.arguments.get("dtype")
    if wanted is not None and not wanted.is_floating_point:
        raise BadInput(f"it casts to {wanted}, which is no type of floats")
    return call.value("self")


Handler: TypeAlias = Callable[[Call, NetworkBuilder], Value | tuple[Value | None, ...]]

OPERATORS: Final[dict[str, Handler]] = {
    "_adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "_log_softmax": _softmax,
    "_native_batch_norm_legit": _batch_norms,
    "_native_batch_norm_legit_no_training": _batch_norms,
    "_softmax": _softmax,
    "_to_copy": _to_type,
    "_unsafe_view": _moved,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "adaptive_max_pool2d": _adaptive_max_pool2d,
    "add": _add,
    "alias": _same_value,
    "avg_pool2d": _avg_pool2d,
    "batch_norm": _batch_norm,
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clone": _same_value,
    "constant_pad_nd": _pad,
    "contiguous": _same_value,
    "conv2d": _conv2d,
    "detach": _same_value,
    "div": _div,
    "flatten": _moved,
    "hardtanh": _hardtanh,
    "linear": _linear,
    "log_softmax": _softmax,
    "matmul": _matmul,
    "max_pool2d": _max_pool2d,
    "mean": _mean,
    "mm": _matmul,
    "mul": _mul,
    "pad": _pad,
    "permute": _moved,
    "relu": _relu,
    "relu6": _relu6,
    "reshape": _moved,
    "rsub": _rsub,
    "softmax": _softmax,
    "squeeze": _moved,
    "sub": _sub,
    "transpose": _moved,
    "unsqueeze": _moved,
    "view": _moved,
}
"""What is done with a call of which an argument depends on the image, by the name of the function."""
