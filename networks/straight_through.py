"""The straight-through estimator, apart because it derives from a class of torch, which takes seconds to import."""

from typing import Any

import torch
from torch import Tensor


class FakeQuantise(torch.autograd.Function):
    """Rounding to a grid forward; the identity backward, where nothing saturates ([STE])."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, step: float | Tensor, low: int, high: int) -> Tensor:  # noqa: ANN401
        """`values` in multiples of `step`, from low to high of them."""
        scaled = values / step
        ctx.save_for_backward((scaled >= low - 0.5) & (scaled <= high + 0.5))
        return scaled.round_().clamp_(low, high).mul_(step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        """The gradient, where the value was inside the range."""
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None
