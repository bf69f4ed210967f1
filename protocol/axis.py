"""One axis of a convolution, rid of all that no output depends on, and cut into windows.

| symbol | meaning |
|---|---|
| k, s | taps of the kernel and stride, as they are left |
| side | how many places a window takes in a polynomial, its halo or the zeros after it included |
"""

from dataclasses import dataclass
from functools import lru_cache

from autoprivacy.protocol.linear_shape import LinearShape


@dataclass(frozen=True, slots=True)
class Axis:
    """`outputs` runs of `kernel` taps, `stride` apart, over `before` zeros, the input's `rows`, and `after` zeros.

    Rows that no output reads and outer taps that only ever meet zeros are gone (`first_tap` is the first one left): a
    strided 1x1 convolution is one with stride 1 on a smaller input.
    """

    rows: tuple[int, ...]
    before: int
    after: int
    kernel: int
    first_tap: int
    stride: int
    outputs: int

    @property
    def whole(self) -> int:
        """The side that holds the whole axis in one window: the zeros between two copies serve both."""
        return len(self.rows) + max(self.before, self.after)

    def side(self, outputs: int) -> int:
        """The least side of a window that yields so many outputs; all of them take `whole`."""
        return self.whole if outputs == self.outputs else (outputs - 1) * self.stride + self.kernel


@dataclass(frozen=True, slots=True)
class Windows:
    """An axis cut into windows of one side, between `axis.kernel` and `axis.whole`."""

    axis: Axis
    side: int

    @property
    def outputs(self) -> int:
        """Outputs of one window; the last one may yield fewer."""
        if self.side == self.axis.whole:
            return self.axis.outputs
        return (self.side - self.axis.kernel) // self.axis.stride + 1

    @property
    def count(self) -> int:
        """How many windows there are."""
        return -(-self.axis.outputs // self.outputs)

    @property
    def step(self) -> int:
        """From the first place of a window to that of the next."""
        return self.outputs * self.axis.stride

    @property
    def length(self) -> int:
        """Places that all windows cover together."""
        return (self.count - 1) * self.step + self.side

    @property
    def first_row(self) -> int:
        """The place of the first row; where one window holds the axis, the zeros before it are those after it."""
        return 0 if self.side == self.axis.whole else self.axis.before

    @property
    def first_output(self) -> int:
        """The place of the first tap of the first output, at least -(kernel - 1)."""
        return self.first_row - self.axis.before


def axes(shape: LinearShape) -> tuple[Axis, Axis]:
    """The axes of a layer: along its height, and along its width."""
    top, left, bottom, right = shape.padding
    (kernel_h, kernel_w), (stride_h, stride_w) = shape.kernel, shape.stride
    return (
        _axis(shape.height, kernel_h, stride_h, top, bottom),
        _axis(shape.width, kernel_w, stride_w, left, right),
    )


@lru_cache(maxsize=1024)
def _axis(size: int, kernel: int, stride: int, before: int, after: int) -> Axis:
    outputs = (size + before + after - kernel) // stride + 1
    starts = range(-before, outputs * stride - before, stride)
    useful = [tap for tap in range(kernel) if any(0 <= start + tap < size for start in starts)]
    first, taps = useful[0], useful[-1] - useful[0] + 1
    before -= first
    kept = min(stride, taps)
    length = (outputs - 1) * kept + taps
    rows = tuple(row for row in range(min(size, starts[-1] + first + taps)) if (row + before) % stride < taps)
    return Axis(
        rows=rows,
        before=before,
        after=length - before - len(rows),
        kernel=taps,
        first_tap=first,
        stride=kept,
        outputs=outputs,
    )
