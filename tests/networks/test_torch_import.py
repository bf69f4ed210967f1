"""Converted torch modules compute what torch says they do; what cannot be converted is one line that says where."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from autoprivacy.common.errors import BadInput
from autoprivacy.networks.importing.builder import Imported
from autoprivacy.networks.importing.torch_import import convert
from tests.networks.foreign import KINDS, randomised
from tests.networks.onnx_files import kinds

Forward = Callable[[torch.Tensor], Any]


def images(shape: tuple[int, ...], count: int = 3) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


def check(module: nn.Module, shape: tuple[int, int, int]) -> Imported:
    """Convert a module, and check that it computes what torch says."""
    found = convert(module, shape, "net")
    x = images(shape)
    with torch.no_grad():
        wanted = module.eval()(x.to(next(module.parameters(), x).dtype)).float().numpy()
    np.testing.assert_allclose(found.trained.run(x.numpy()), wanted, rtol=0, atol=1e-4)
    return found


def refused(module: nn.Module, shape: tuple[int, int, int]) -> str:
    """The one line that is said of a module."""
    with pytest.raises(BadInput) as caught:
        convert(module, shape, "net")
    line = str(caught.value)
    assert line.startswith("network 'net': ")
    assert line.isprintable()
    return line


class Computing(nn.Module):
    """A module whose forward pass is a given function, with layers to use in it."""

    def __init__(self, compute: Forward) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.compute = compute

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.compute(x)
        return found


@pytest.mark.parametrize("kind", KINDS)
def test_modules_compute_what_torch_says(kind: str) -> None:
    make, shape = KINDS[kind]
    module = randomised(make())
    found = convert(module, shape, kind)
    x = images(shape)
    with torch.no_grad():
        wanted = module(x).numpy()
    logits = found.trained.run(x.numpy())
    if kind == "lenet":
        logits = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if kind == "minionn":
        logits = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-4)
    assert len(found.notes) == (kind in {"lenet", "minionn"})
    assert found.trained.network.name == kind
    normalised = kind == "minionn"  # its input, in front of a padded convolution that could not be shifted
    convolutions = sum(isinstance(part, nn.Conv2d) for part in module.modules())
    assert kinds(found).count("conv2d") == convolutions + normalised


def test_layers_have_the_names_of_their_modules() -> None:
    names = [
        layer.name for layer in convert(randomised(KINDS["residual"][0]()), (3, 16, 16), "r").trained.network.layers
    ]
    assert names[:2] == ["stem.0", "stem.2"]
    assert {"body.0", "body.3", "narrowed.0", "shortcut.0", "fc"} <= set(names)


WEIGHT, MATRIX, BIAS = torch.randn(4, 3, 3, 3), torch.randn(48, 5), torch.randn(5)

SNIPPETS: dict[str, tuple[Forward, list[str]]] = {
    "relu, as a method": (lambda x: x.relu().flatten(1), ["relu", "flatten"]),
    "relu, in place": (lambda x: (x * 1).relu_().flatten(1), ["relu", "flatten"]),
    "relu by clamping": (lambda x: x.clamp(min=0).flatten(1), ["relu", "flatten"]),
    "relu by clamp_min": (lambda x: torch.clamp_min(x, 0).flatten(1), ["relu", "flatten"]),
    "relu6": (lambda x: functional.relu6(x).flatten(1), ["relu6", "flatten"]),
    "relu6 by clamping": (lambda x: torch.clamp(x, 0, 6).flatten(1), ["relu6", "flatten"]),
    "relu6 in two": (lambda x: torch.clamp(torch.relu(x), max=6).flatten(1), ["relu6", "flatten"]),
    "hardtanh": (lambda x: functional.hardtanh(x, 0.0, 6.0).flatten(1), ["relu6", "flatten"]),
    "idle": (
        lambda x: functional.dropout(x.contiguous().clone().detach(), training=False).relu().flatten(1),
        ["relu", "flatten"],
    ),
    "convolution": (lambda x: functional.conv2d(x, WEIGHT, stride=2, padding=1).flatten(1), ["conv2d", "flatten"]),
    "padding same": (
        lambda x: functional.conv2d(x, WEIGHT[:, :, :2], padding="same").flatten(1), ["conv2d", "flatten"]
    ),
    "padding valid": (lambda x: functional.conv2d(x, WEIGHT, padding="valid").flatten(1), ["conv2d", "flatten"]),
    "padded apart": (
        lambda x: functional.conv2d(functional.pad(x, (1, 0, 2, 1)), WEIGHT).flatten(1), ["conv2d", "flatten"]
    ),
    "matrix product": (lambda x: x.flatten(1) @ MATRIX + BIAS, ["flatten", "linear"]),
    "mm": (lambda x: torch.mm(x.flatten(1), MATRIX), ["flatten", "linear"]),
    "linear": (lambda x: functional.linear(x.flatten(1), MATRIX.T, BIAS), ["flatten", "linear"]),
    "channels last": (
        lambda x: functional.linear(x.permute(0, 2, 3, 1).reshape(x.shape[0], -1), MATRIX.T), ["flatten", "linear"]
    ),
    "transposed": (lambda x: x.transpose(1, 3).reshape(-1, 48) @ MATRIX, ["flatten", "linear"]),
    "global mean": (lambda x: x.mean((2, 3)), ["avgpool", "flatten"]),
    "global mean, kept": (lambda x: x.mean([-1, -2], keepdim=True).view(-1, 3), ["avgpool", "flatten"]),
    "adaptive mean": (lambda x: functional.adaptive_avg_pool2d(x, 1).squeeze(3).squeeze(2), ["avgpool", "flatten"]),
    "adaptive mean of 2x2": (lambda x: functional.adaptive_avg_pool2d(x, 2).flatten(1), ["avgpool", "flatten"]),
    "adaptive maximum": (lambda x: functional.adaptive_max_pool2d(x, 1).flatten(1), ["maxpool", "flatten"]),
    "adaptive maximum of 2x4": (lambda x: functional.adaptive_max_pool2d(x, (2, 4)).flatten(1), ["maxpool", "flatten"]),
    "window of all": (lambda x: functional.avg_pool2d(x, x.shape[2:]).flatten(1), ["avgpool", "flatten"]),
    "sum": (lambda x: (x + torch.relu(x)).flatten(1), ["relu", "add", "flatten"]),
    "sum in place": (lambda x: torch.relu(x).add_(x).flatten(1), ["relu", "add", "flatten"]),
    "scaled sum": (lambda x: torch.add(torch.relu(x), x, alpha=2).flatten(1), ["relu", "conv2d", "add", "flatten"]),
    "difference": (lambda x: (torch.relu(x) - x).flatten(1), ["relu", "conv2d", "add", "flatten"]),
    "number minus": (lambda x: (1 - x).flatten(1), ["conv2d", "flatten"]),
    "scaled by channel": (
        lambda x: (x / torch.tensor([1.0, 2, 4])[:, None, None] - 0.5).flatten(1), ["conv2d", "flatten"]
    ),
    "scaled, then convolved": (lambda x: functional.conv2d((x - 0.5) * 2, WEIGHT).flatten(1), ["conv2d", "flatten"]),
    "batch norm": (
        lambda x: functional.batch_norm(
            functional.conv2d(x, WEIGHT), torch.ones(4), torch.full((4,), 2.0), eps=0.1
        ).flatten(1),
        ["conv2d", "flatten"],
    ),
    "reshaped": (
        lambda x: functional.conv2d(x.relu().reshape(-1, 12, 2, 2), WEIGHT.view(9, 12, 1, 1)).flatten(1),
        ["relu", "reshape", "conv2d", "flatten"],
    ),
    "unsqueezed": (
        lambda x: functional.conv2d(x.flatten(1).unsqueeze(-1).unsqueeze(-1), MATRIX.T[:, :, None, None]).flatten(1),
        ["reshape", "conv2d", "flatten"],
    ),
    "cast": (lambda x: x.to(torch.float64).relu().float().flatten(1), ["relu", "flatten"]),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_function_computes_what_torch_says(snippet: str) -> None:
    compute, wanted = SNIPPETS[snippet]
    assert kinds(check(Computing(compute), (3, 4, 4))) == wanted


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_other_floats_become_single_precision(kind: torch.dtype) -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    found = convert(randomised(module).to(kind), (1, 4, 4), "net").trained
    with torch.no_grad():
        wanted = module.float()(images((1, 4, 4))).numpy()
    np.testing.assert_allclose(found.run(images((1, 4, 4)).numpy()), wanted, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=15)
@given(
    operator=st.sampled_from(["conv", "max", "mean"]),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    groups=st.sampled_from([1, 2, 4]),
    ceil_mode=st.booleans(),
)
def test_windows_are_those_of_torch(
    operator: str,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    groups: int,
    *,
    ceil_mode: bool,
) -> None:
    assume(all(extent + 2 * pad >= taps for extent, pad, taps in zip(size, padding, kernel, strict=True)))
    assume(
        all(pad <= (taps - 1 if operator == "conv" else taps // 2) for pad, taps in zip(padding, kernel, strict=True))
    )
    layers: dict[str, Callable[[], nn.Module]] = {
        "conv": lambda: nn.Conv2d(4, 4, kernel, stride, padding, groups=groups),
        "max": lambda: nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode),
        "mean": lambda: nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil_mode),
    }
    module = nn.Sequential(layers[operator](), nn.Flatten())
    try:
        check(module, (4, *size))
    except BadInput as error:
        # Means of windows that reach beyond the input have no layer.
        assume("reach beyond" not in str(error))
        raise


def test_a_module_stays_as_it_is() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2).eval(), nn.Dropout(), nn.Flatten())
    before = {name: values.clone() for name, values in module.state_dict().items()}
    convert(module, (1, 4, 4), "net")
    refused(nn.Sequential(module, nn.Tanh()), (1, 4, 4))
    refused(module, (2, 4, 4))
    assert [part.training for part in module.modules()] == [True, True, False, True, True]
    assert all(torch.equal(before[name], values) for name, values in module.state_dict().items())
    assert all(values.requires_grad for values in module.parameters())


def test_a_module_may_share_weights_and_keep_what_is_no_parameter() -> None:
    class Shared(nn.Module):
        mean: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1)
            self.register_buffer("mean", torch.tensor([0.5, 0.25])[:, None, None], persistent=False)
            self.scale = torch.tensor(3.0)

        def forward(self, x: torch.Tensor, *, again: bool = True) -> torch.Tensor:
            x = self.conv((x - self.mean) * self.scale).relu()
            return (self.conv(x) if again else x).flatten(1)

    found = check(randomised(Shared()), (2, 4, 4))
    assert kinds(found) == ["conv2d", "conv2d", "relu", "conv2d", "flatten"]


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) if x.sum() > 0 else x.relu().flatten(1)


class Pairing(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.flatten(1), x.relu()


class Combining(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


class Raising(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("\x1b[31m two\nlines" if len(x) else "")


WRONG: dict[str, tuple[nn.Module, str]] = {
    "unsupported": (nn.Sequential(nn.Tanh(), nn.Flatten(), nn.Sigmoid()), "tanh ('0'), sigmoid ('2'); supported are"),
    "unsupported function": (Computing(lambda x: torch.cat([x, x], 1).flatten(1)), "cat ('cat')"),
    "gelu": (nn.Sequential(nn.GELU(), nn.Flatten()), "gelu ('0')"),
    "transposed convolution": (nn.Sequential(nn.ConvTranspose2d(3, 2, 3), nn.Flatten()), "conv_transpose2d ('0')"),
    "attention": (Computing(lambda x: (x.flatten(2) @ x.flatten(2).transpose(1, 2)).flatten(1)), "must be constant"),
    "dilated": (nn.Sequential(nn.Conv2d(3, 2, 2, dilation=2), nn.Flatten()), "dilation (2, 2) is not supported"),
    "mirrored": (nn.Sequential(nn.Conv2d(3, 2, 3, padding=1, padding_mode="reflect"), nn.Flatten()), "with zeros"),
    "padded with ones": (nn.Sequential(nn.ConstantPad2d(1, 1.0), nn.Conv2d(3, 2, 3), nn.Flatten()), "with zeros"),
    "padded images": (Computing(lambda x: functional.pad(x, (0,) * 6 + (1, 1)).flatten(1)), "axis of the images"),
    "batch statistics": (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten()), "recorded ones"),
    "clamped to 0..1": (nn.Sequential(nn.Hardtanh(0, 1), nn.Flatten()), "it clips to 0..1"),
    "clamped by a tensor": (Computing(lambda x: torch.clamp(x, x).flatten(1)), "that are numbers"),
    "means without padding": (
        nn.Sequential(nn.AvgPool2d(2, padding=1, count_include_pad=False), nn.Flatten()), "set count_include_pad"
    ),
    "divided by another number": (
        nn.Sequential(nn.AvgPool2d(2, divisor_override=3), nn.Flatten()), "divisor_override is not"
    ),
    "windows of two sizes": (nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten()), "not be of one size"),
    "maxima of two sizes": (nn.Sequential(nn.AdaptiveMaxPool2d(3), nn.Flatten()), "not be of one size"),
    "mean of channels": (Computing(lambda x: x.mean(1, keepdim=True).flatten(1)), "over channels"),
    "mean of everything": (Computing(lambda x: x.mean()), "mean of everything"),
    "mixed images": (Computing(lambda x: x.reshape(1, -1)), "mixes images"),
    "no logits": (nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()), "a flat tensor of logits"),
    "softmax inside": (nn.Sequential(nn.Flatten(), nn.Softmax(1), nn.Linear(48, 2)), "only at the end"),
    "softmax of images": (nn.Sequential(nn.Flatten(), nn.Softmax(0)), "must stay apart"),
    "along the width": (nn.Sequential(nn.Linear(4, 2), nn.Flatten()), "only flat tensors are supported"),
    "product of images": (Computing(lambda x: (x * x).flatten(1)), "depends on the image; it must be constant"),
    "divided by the image": (Computing(lambda x: (1 / x).flatten(1)), "reciprocal"),
    "rounded division": (Computing(lambda x: torch.div(x, 2, rounding_mode="floor").flatten(1)), "rounding_mode"),
    "divided by zero": (Computing(lambda x: (x / 0).flatten(1)), "not finite"),
    "cast to integers": (Computing(lambda x: x.to(torch.int32).flatten(1)), "no type of floats"),
    "constant": (Computing(lambda x: torch.ones(len(x), 3)), "depends on its input"),
    "another shape": (nn.Sequential(nn.Conv2d(4, 2, 3), nn.Flatten()), "cannot trace this Sequential"),
    "branches": (Branching(), "cannot trace this Branching"),
    "two outputs": (Pairing(), "1 inputs and 2 outputs"),
    "two inputs": (Combining(), "cannot trace this Combining"),
    "raises": (Raising(), "cannot trace this Raising for images of shape (3, 4, 4)"),
    "weights not there": (nn.Sequential(nn.Conv2d(3, 2, 3, device="meta"), nn.Flatten()), "meta"),
}  # fmt: skip


@pytest.mark.parametrize("fault", WRONG)
def test_what_cannot_be_converted_is_one_line(fault: str) -> None:
    module, reason = WRONG[fault]
    assert reason in refused(module, (3, 4, 4))


def test_weights_that_are_not_finite_are_refused() -> None:
    last = nn.Linear(4, 2)
    nn.init.constant_(last.bias, float("nan"))
    line = refused(nn.Sequential(nn.Flatten(), last), (1, 2, 2))
    assert "linear ('1'): its bias holds values that are not finite" in line


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 0), (3, 4, -4), (1, 3, 4, 4)])
def test_an_impossible_shape_of_images_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match="must be \\(C, H, W\\)"):
        convert(nn.Flatten(), shape, "net")  # type: ignore[arg-type]  # wrong on purpose
