"""Where the values of one channel sit in a block of slots, and which slots a kernel tap reads.

| symbol | meaning |
|---|---|
| stride phase | every stride-th row (column) of the padded input: strided, a channel is several phases of stride 1 |
| tap | a row (column) of the kernel; it reads the phase of its residue modulo the stride |
| shift | how many stored rows (columns) further on than its output a tap reads |
| window | the output rows (columns) that one block yields |

An axis that one window covers stores no padding: weights are zero where a tap would read it [Gazelle, section 4.2]. An
axis cut into windows stores halo and padding, so that every window takes the same weights.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from autoprivacy.networks.graph import Pair
from autoprivacy.protocol.linear_shape import IntArray, LinearShape

BoolArray = NDArray[np.bool_]


def power_of_two(least: int) -> int:
    """The least power of two that is not below `least`.

    >>> [power_of_two(value) for value in (1, 2, 3, 64, 65)]
    [1, 2, 4, 64, 128]
    """
    return 1 << (least - 1).bit_length()


@dataclass(frozen=True, slots=True)
class Phase:
    """One stride phase of an axis: `length` stored rows, which start with row `first` of the phase.

    `shifts` maps every tap that reads a stored row to its shift.
    """

    residue: int
    first: int
    length: int
    shifts: dict[int, int]


@dataclass(frozen=True)
class PhaseAxis:
    """The height or the width of a layer, padded by `before` in front; a block yields `window` of its `out` outputs."""

    size: int
    before: int
    kernel: int
    stride: int
    out: int
    window: int

    @property
    def windows(self) -> int:
        """How many windows cover the output."""
        return -(-self.out // self.window)

    @property
    def outputs(self) -> int:
        """Output rows of a block."""
        return min(self.window, self.out)

    @cached_property
    def phases(self) -> tuple[Phase, ...]:
        """The phases that some output reads, by residue."""
        found = (self._phase(residue) for residue in range(min(self.stride, self.kernel)))
        return tuple(phase for phase in found if phase.shifts)

    def _phase(self, residue: int) -> Phase:
        taps = range(residue, self.kernel, self.stride)
        first, end = 0, self.outputs + len(taps) - 1
        if self.windows == 1:
            first = max(0, -((residue - self.before) // self.stride))
            end = min(end, (self.before + self.size - 1 - residue) // self.stride + 1)
        length = max(0, end - first)
        shifts = {tap: tap // self.stride - first for tap in taps} if length else {}
        return Phase(
            residue, first, length, {tap: shift for tap, shift in shifts.items() if -self.outputs < shift < length}
        )

    @property
    def stored(self) -> int:
        """Rows of a block: those of the longest phase, and one for every output."""
        return max(self.outputs, *(phase.length for phase in self.phases))

    def sources(self, window: int, phase: Phase) -> IntArray:
        """The input row that each stored row holds, -1 for none."""
        row = np.arange(self.stored)
        source = (window * self.window + phase.first + row) * self.stride + phase.residue - self.before
        return np.where((row < phase.length) & (source >= 0) & (source < self.size), source, -1)

    def reads(self, phase: Phase, tap: int) -> BoolArray:
        """For which stored rows, taken as outputs, `tap` reads a stored row of `phase`."""
        row = np.arange(self.stored)
        source = row + phase.shifts[tap]
        return (row < self.outputs) & (source >= 0) & (source < phase.length)


@dataclass(frozen=True)
class Geometry:
    """Both axes of a layer, for windows of `window` output rows and columns."""

    shape: LinearShape
    window: Pair

    @cached_property
    def axes(self) -> tuple[PhaseAxis, PhaseAxis]:
        """The height and the width."""
        shape = self.shape
        height, width = (
            PhaseAxis(size, before, kernel, stride, out, window)
            for size, before, kernel, stride, out, window in zip(
                (shape.height, shape.width),
                shape.padding[:2],
                shape.kernel,
                shape.stride,
                shape.out_size,
                self.window,
                strict=True,
            )
        )
        return height, width

    @cached_property
    def windows(self) -> tuple[Pair, ...]:
        """Row and column number of every window."""
        height, width = self.axes
        return tuple(product(range(height.windows), range(width.windows)))

    @cached_property
    def block(self) -> int:
        """Slots of one channel: a power of two, so that rotations of channels wrap around a row of slots."""
        height, width = self.axes
        return power_of_two(height.stored * width.stored)

    @cached_property
    def phases(self) -> tuple[tuple[Phase, Phase], ...]:
        """Phases of both axes: what takes the place of one input channel."""
        height, width = self.axes
        return tuple(product(height.phases, width.phases))

    @cached_property
    def shifts(self) -> tuple[Pair, ...]:
        """Every distinct shift (rows, columns) of a tap, in order."""
        return tuple(sorted({pair for h, w in self.phases for pair in product(h.shifts.values(), w.shifts.values())}))

    @cached_property
    def taps(self) -> IntArray:
        """(phases, shifts): the kernel's flat tap of this phase with this shift, -1 for none."""
        table = np.full((len(self.phases), len(self.shifts)), -1, np.int64)
        at = {shift: index for index, shift in enumerate(self.shifts)}
        for number, (height, width) in enumerate(self.phases):
            for (tap, rows), (tap_w, columns) in product(height.shifts.items(), width.shifts.items()):
                table[number, at[rows, columns]] = tap * self.shape.kernel[1] + tap_w
        return table

    @cached_property
    def reads(self) -> BoolArray:
        """(phases, shifts, block): in which slots of a block the tap counts."""
        height, width = self.axes
        table = np.zeros((len(self.phases), len(self.shifts), self.block), bool)
        for number, index in np.argwhere(self.taps >= 0):
            tap, tap_w = divmod(int(self.taps[number, index]), self.shape.kernel[1])
            of_h, of_w = self.phases[number]
            grid = np.outer(height.reads(of_h, tap), width.reads(of_w, tap_w))
            table[number, index, : grid.size] = grid.ravel()
        return table

    @cached_property
    def sources(self) -> IntArray:
        """(windows, phases, block): the flat input position (row, column) that each slot holds, -1 for none."""
        height, width = self.axes
        table = np.full((len(self.windows), len(self.phases), self.block), -1, np.int64)
        for number, (row, column) in enumerate(self.windows):
            for index, (of_h, of_w) in enumerate(self.phases):
                rows, columns = height.sources(row, of_h)[:, None], width.sources(column, of_w)
                grid = np.where((rows >= 0) & (columns >= 0), rows * self.shape.width + columns, -1)
                table[number, index, : grid.size] = grid.ravel()
        return table

    def outputs(self, window: int) -> tuple[IntArray, IntArray]:
        """The slots of a block that hold outputs of a window, and their flat output position (row, column)."""
        height, width = self.axes
        row, column = self.windows[window]
        top, left = row * height.window, column * width.window
        rows = np.arange(min(height.outputs, height.out - top))[:, None]
        columns = np.arange(min(width.outputs, width.out - left))
        return (rows * width.stored + columns).ravel(), ((top + rows) * width.out + left + columns).ravel()

    def step(self, shift: Pair) -> int:
        """Slots between an output and what a tap of this shift reads."""
        return shift[0] * self.axes[1].stored + shift[1]
