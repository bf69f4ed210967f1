"""Packing `slots`: SIMD slots and rotations [Gazelle, DELPHI], for convolutions and fully connected layers alike.

| symbol | meaning |
|---|---|
| N | slots of a row: n/2; a ciphertext has two rows, which rotate together |
| block | the slots of one channel (`slot_geometry`) |
| lanes | groups side by side: their blocks with the same channel number form one pitch |
| c | pitches of a row: N / (lanes · block) |
| p, o | the tile's input and output channels of a group in a row |
| D | diagonals: the distances, in pitches modulo c, from an output channel to the input channels that it takes |

A fully connected layer is a 1x1 convolution of a 1x1 image: blocks of one slot, c = N; p, o and D make it the hybrid
method of [Gazelle]. docs/protocol.md has the index formulas.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.common.records import record
from autoprivacy.networks.graph import Pair
from autoprivacy.protocol.linear_shape import IntArray, LinearShape
from autoprivacy.protocol.seal_keys import SWAP
from autoprivacy.protocol.slot_geometry import BoolArray, Geometry, power_of_two

MAX_DIRECT_KEYS: Final = 64
"""With more Galois steps than this, rotations by taps and channels are composed of fewer ones."""

Rows = Literal["channels", "outputs", "groups", "windows"]


@record
class SlotTile:
    """What may be chosen about the slots of one layer; channels, lanes and baby steps are powers of two.

    | field | meaning |
    |---|---|
    | window | output rows and columns of a block |
    | in_channels | p: input channels (times stride phases) of a group in a row of an input |
    | out_channels | o: output channels of a group in a row of a response |
    | lanes | groups side by side in a row |
    | rows | where both rows differ: input and output channels (sums then cross rows), outputs only, groups, windows |
    | baby_steps | diagonals for which inputs are rotated, not sums; 1 is *output rotation*, D *input rotation* |
    """

    window: Pair
    in_channels: int
    out_channels: int
    lanes: int
    rows: Rows
    baby_steps: int


@dataclass(frozen=True)
class SlotLayout:
    """Where every value of one layer sits, for ring degree `n` and one tile.

    Raises:
        InvalidPolicy: if the tile does not fit the ring or the layer.
    """

    shape: LinearShape
    tile: SlotTile
    n: int

    def __post_init__(self) -> None:
        tile, out = self.tile, self.shape.out_size
        if not (1 <= tile.window[0] <= out[0] and 1 <= tile.window[1] <= out[1]):
            raise InvalidPolicy(f"tile window {tile.window} must lie between (1, 1) and {out} for {self.shape}")
        fields = ("in_channels", "out_channels", "lanes", "baby_steps")
        sizes = tuple(getattr(tile, name) for name in fields)
        for name, size in zip(fields, sizes, strict=True):
            if size < 1 or size & (size - 1):
                raise InvalidPolicy(f"tile {name} = {size} must be a power of two")
        if tile.lanes > power_of_two(self.shape.groups):
            raise InvalidPolicy(f"tile lanes = {tile.lanes}, but {self.shape} has {self.shape.groups} groups")
        used = max(tile.in_channels, tile.out_channels) * tile.lanes * self.geometry.block
        if used > self.row:
            raise InvalidPolicy(f"tile {tile} needs {used} slots in a row, but n / 2 = {self.row}")
        if tile.baby_steps > self.diagonals:
            raise InvalidPolicy(f"tile baby_steps = {tile.baby_steps}, but there are {self.diagonals} diagonals")

    @cached_property
    def geometry(self) -> Geometry:
        """Where values sit within a block."""
        return Geometry(self.shape, self.tile.window)

    @property
    def row(self) -> int:
        """N."""
        return self.n // 2

    @cached_property
    def pitch(self) -> int:
        """Slots between channels of a group."""
        return self.tile.lanes * self.geometry.block

    @property
    def pitches(self) -> int:
        """c: how many channels of a group fit a row."""
        return self.row // self.pitch

    @property
    def diagonals(self) -> int:
        """D."""
        return max(1, self.tile.in_channels * self.tile.out_channels // self.pitches)

    @property
    def giants(self) -> int:
        """Sums that are rotated into one: D / baby steps."""
        return self.diagonals // self.tile.baby_steps

    @property
    def swaps(self) -> int:
        """2 where sums cross rows, else 1."""
        return 2 if self.tile.rows == "channels" else 1

    @property
    def group_inputs(self) -> int:
        """Input channels of one group, times stride phases."""
        return self._group_channels * len(self.geometry.phases)

    @property
    def group_outputs(self) -> int:
        """Output channels of one group."""
        return self.shape.out_channels // self.shape.groups

    @property
    def _group_channels(self) -> int:
        return self.shape.in_channels // self.shape.groups

    def _parts(self, total: int, of_a_row: int, *differing: Rows) -> int:
        return -(-total // (of_a_row * (2 if self.tile.rows in differing else 1)))

    @property
    def in_parts(self) -> int:
        """Inputs of one group slab."""
        return self._parts(self.group_inputs, self.tile.in_channels, "channels")

    @property
    def out_parts(self) -> int:
        """Responses of one group slab."""
        return self._parts(self.group_outputs, self.tile.out_channels, "channels", "outputs")

    @property
    def group_slabs(self) -> int:
        """Sets of groups that share their ciphertexts."""
        return self._parts(self.shape.groups, self.tile.lanes, "groups")

    @property
    def window_slabs(self) -> int:
        """Sets of windows (one, or one a row) that share their ciphertexts; they share their weights too."""
        return self._parts(len(self.geometry.windows), 1, "windows")

    @property
    def inputs(self) -> int:
        """Ciphertexts of the client, by window slab, group slab, part."""
        return self.window_slabs * self.group_slabs * self.in_parts

    @property
    def responses(self) -> int:
        """Ciphertexts of the server, by window slab, group slab, part."""
        return self.window_slabs * self.group_slabs * self.out_parts

    @property
    def response_sizes(self) -> IntArray:
        """Coefficients of c0 that each response sends (responses,): a slot depends on all of them."""
        return np.full(self.responses, self.n)

    def _split(self, parts: int, of_a_row: int, total: int, *differing: Rows) -> IntArray:
        """(parts, 2 rows, of_a_row): numbers from 0 on, -1 beyond the total; rows that do not differ repeat."""
        rows = 2 if self.tile.rows in differing else 1
        numbers = np.arange(parts * rows * of_a_row).reshape(parts, rows, of_a_row)
        return np.broadcast_to(np.where(numbers < total, numbers, -1), (parts, 2, of_a_row))

    @cached_property
    def _pitch_order(self) -> tuple[IntArray, IntArray]:
        """For every pitch, its channel among the p of an input and among the o of a sum; -1 where it is empty.

        Copies of the inputs are shifted by D from one to the next, so that the D diagonals of all copies together
        meet every input channel once.
        """
        p, o = self.tile.in_channels, self.tile.out_channels
        pitch = np.arange(self.pitches)
        used = pitch < p * o
        return (
            np.where(used, (pitch + pitch // max(p, o) * self.diagonals) % p, -1),
            np.where(used, pitch % o, -1),
        )

    @cached_property
    def in_channels(self) -> IntArray:
        """(in_parts, 2, c): the input channel in a group, phase-major, that each pitch holds; -1 for none."""
        order = self._pitch_order[0]
        table = self._split(self.in_parts, self.tile.in_channels, self.group_inputs, "channels")
        return np.where(order >= 0, table[:, :, order], -1)

    @cached_property
    def out_channels(self) -> IntArray:
        """(out_parts, 2, c): the output channel in a group that each pitch sums up; -1 for none."""
        order = self._pitch_order[1]
        table = self._split(self.out_parts, self.tile.out_channels, self.group_outputs, "channels", "outputs")
        return np.where(order >= 0, table[:, :, order], -1)

    @cached_property
    def _groups(self) -> IntArray:
        return self._split(self.group_slabs, self.tile.lanes, self.shape.groups, "groups")

    @cached_property
    def _windows(self) -> IntArray:
        return self._split(self.window_slabs, 1, len(self.geometry.windows), "windows")[:, :, 0]

    @cached_property
    def _sources(self) -> NDArray[np.int32]:
        """(inputs, n): the flat input value in every slot, -1 for zero."""
        geometry, shape = self.geometry, self.shape
        phase, channel = np.divmod(self.in_channels, self._group_channels)
        blocks = (self.window_slabs, self.group_slabs, *self.in_channels.shape, self.tile.lanes)
        slots = np.full((*blocks, geometry.block), -1)
        group = self._groups[:, None, :, None, :, None]
        plane = group * self._group_channels + channel[None, :, :, :, None, None]
        held = (group >= 0) & (self.in_channels >= 0)[None, :, :, :, None, None]
        for slab, windows in enumerate(self._windows):
            pixels = np.stack([geometry.sources[window, phase[:, row]] for row, window in enumerate(windows)], axis=1)
            pixels = np.where(windows[:, None, None] >= 0, pixels, -1)[None, :, :, :, None, :]
            slots[slab] = np.where(held & (pixels >= 0), plane * shape.height * shape.width + pixels, -1)
        return slots.reshape(self.inputs, self.n).astype(np.int32)

    def encode_input(self, tensor: IntArray) -> IntArray:
        """Slots (inputs, n) of one input tensor (C, height, width)."""
        encoded: IntArray = np.append(tensor, 0)[self._sources]
        return encoded

    @cached_property
    def outputs(self) -> tuple[tuple[IntArray, IntArray], ...]:
        """Per response: slots that hold outputs, and their flat output index; every output once."""
        return tuple(
            self._outputs_of(windows, groups, channels)
            for windows in self._windows
            for groups in self._groups
            for channels in self.out_channels[:, :, : self.tile.out_channels]
        )

    def _outputs_of(self, windows: IntArray, groups: IntArray, channels: IntArray) -> tuple[IntArray, IntArray]:
        slots, index = [], []
        size = self.shape.out_size[0] * self.shape.out_size[1]
        for row in (0, 1):
            if windows[row] < 0:
                continue
            at, pixel = self.geometry.outputs(windows[row])
            number, lane = np.nonzero((channels[row][:, None] >= 0) & (groups[row] >= 0))
            plane = groups[row][lane] * self.group_outputs + channels[row][number]
            start = row * self.row + number * self.pitch + lane * self.geometry.block
            slots.append((start[:, None] + at).ravel())
            index.append((plane[:, None] * size + pixel).ravel())
        return np.concatenate(slots), np.concatenate(index)

    @cached_property
    def _read(self) -> tuple[IntArray, IntArray]:
        """(in_parts, baby steps, 1, 2, c, 1): phase (-1 for none) and channel that a pitch meets in a rotated input."""
        pitch = np.arange(self.pitches) + np.arange(self.tile.baby_steps)[:, None]
        met = self.in_channels[:, :, pitch % self.pitches].swapaxes(1, 2)
        phase, channel = np.divmod(met[:, :, None, :, :, None], self._group_channels)
        return phase, channel

    @cached_property
    def _shift(self) -> IntArray:
        """(shifts, 1, 1, 1): every shift, to go with `_read`."""
        return np.arange(len(self.geometry.shifts))[:, None, None, None]

    def _weight_index(self, group_slab: int, part: int, swap: int, giant: int) -> IntArray:
        """(in_parts, baby steps, shifts, 2, c, lanes): the flat weight in every block of one sum's multipliers, or -1.

        A sum sits where its rotation by `giant` rounds of baby steps, and by `swap` rows, brings it to its output.
        """
        out = self.out_channels[part, ::-1] if swap else self.out_channels[part]
        out = np.roll(out, giant * self.tile.baby_steps, axis=1)[:, :, None]
        phase, channel = self._read
        tap = self.geometry.taps[phase, self._shift]
        group = self._groups[group_slab][:, None, :]
        plane = (group * self.group_outputs + out) * self._group_channels + channel
        there = (group >= 0) & (out >= 0) & (phase >= 0) & (tap >= 0)
        return np.where(there, plane * (self.shape.kernel[0] * self.shape.kernel[1]) + tap, -1)

    @property
    def products_shape(self) -> tuple[int, ...]:
        """Sums by group slab, out part, swap, giant; the products of a sum by in part, baby step, shift."""
        sums = (self.group_slabs, self.out_parts, self.swaps, self.giants)
        return (*sums, self.in_parts, self.tile.baby_steps, len(self.geometry.shifts))

    @property
    def weight_rows(self) -> int:
        """Rows of `encode_weights`: sums."""
        return prod(self.products_shape[:4])

    def encode_weights(self, weight: IntArray, rows: Sequence[int] | None = None) -> Iterator[IntArray]:
        """The multipliers (products, n) of one sum after the other, in the order of `products_shape`.

        By default of all sums.
        """
        flat = np.append(weight.ravel(), 0)
        reads = self.geometry.reads[self._read[0], self._shift]
        for row in range(self.weight_rows) if rows is None else rows:
            slab, part, swap, giant = map(int, np.unravel_index(row, self.products_shape[:4]))
            values = flat[self._weight_index(slab, part, swap, giant)]
            yield (values[..., None] * reads).reshape(-1, self.n)

    def nonzero(self, weight: IntArray) -> BoolArray:
        """Which products of `products_shape` have a weight other than zero: what the server does."""
        flat = np.append(weight.ravel() != 0, [False])
        sums = np.ndindex(self.products_shape[:4])
        found = [flat[self._weight_index(*which)].any(axis=(-3, -2, -1)) for which in sums]
        return np.array(found, bool).reshape(self.products_shape)

    @cached_property
    def structure(self) -> BoolArray:
        """`nonzero` of weights without zeros, without looking at slots: some products meet empty pitches only."""
        o, taps = self.tile.out_channels, self.geometry.taps >= 0
        phases = np.arange(len(taps))[:, None, None, None]
        phase_of = self.in_channels // self._group_channels
        held = (phase_of == phases).reshape(*phases.shape[:1], *phase_of.shape[:2], -1, o).any(axis=3)
        ahead = np.concatenate([np.zeros_like(held[..., :1]), held, held], axis=-1).cumsum(axis=-1)
        # Output channels 0 to count - 1 of a row read, on diagonal d, the residues d to d + count - 1 modulo o.
        counts = (self.out_channels[:, :, :o] >= 0).sum(axis=2)
        diagonal = np.arange(self.diagonals)
        met = np.zeros((self.out_parts, self.swaps, self.diagonals, len(taps), self.in_parts), bool)
        for swap, row in product(range(self.swaps), (0, 1)):
            ends = diagonal + counts[:, swap ^ row, None]
            met[:, swap] |= np.moveaxis(ahead[:, :, row, ends] > ahead[:, :, row, diagonal][:, :, None], (0, 1), (2, 3))
        shape = (self.out_parts, self.swaps, self.giants, self.tile.baby_steps, *met.shape[3:])
        found = np.einsum("rsgbpi,pt->rsgibt", met.reshape(shape), taps)
        return np.broadcast_to(found, self.products_shape)

    @cached_property
    def baby_rotations(self) -> IntArray:
        """(baby steps, shifts): the steps by which an input is rotated for a product."""
        shifts = np.array([self.geometry.step(shift) for shift in self.geometry.shifts], np.int64)
        return (np.arange(self.tile.baby_steps)[:, None] * self.pitch + shifts) % self.row

    @property
    def giant_rotation(self) -> int:
        """The steps by which a running sum is rotated for each of the giants."""
        return self.tile.baby_steps * self.pitch

    @cached_property
    def folds(self) -> tuple[int, ...]:
        """The steps by which a response is rotated and added to itself: its copies hold parts of the sums."""
        copies = min(self.pitches, self.tile.in_channels * self.tile.out_channels) // self.tile.out_channels
        return tuple(self.tile.out_channels * self.pitch << fold for fold in range(copies.bit_length() - 1))

    @cached_property
    def parents(self) -> dict[int, int]:
        """For every rotation of an input: the rotation that it is made from; 0 is the input itself.

        Each is made directly, by a Galois key of its own, while there are at most `MAX_DIRECT_KEYS`; else by columns,
        then rows, then channels.
        """
        needed = np.argwhere(np.logical_or.reduce(self.structure, axis=(0, 1, 2, 3, 4)))
        direct = {int(self.baby_rotations[baby, shift]): 0 for baby, shift in needed}
        direct.pop(0, None)
        if len(direct) <= MAX_DIRECT_KEYS:
            return direct
        found: dict[int, int] = {}
        for baby, shift in needed:
            rows, columns = self.geometry.shifts[shift]
            parent = 0
            for step in (columns, self.geometry.step((rows, columns)), self.baby_rotations[baby, shift]):
                if step % self.row not in (0, parent):
                    found.setdefault(int(step % self.row), parent)
                parent = int(step % self.row)
        return found

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """The Galois steps that the layer needs a key for; `SWAP` among them where sums cross rows."""
        found = {(step - parent) % self.row for step, parent in self.parents.items()}
        sums = np.logical_or.reduce(self.structure, axis=(0, 1, 4, 5, 6))
        if sums[:, 1:].any():
            found.add(self.giant_rotation)
        if sums[1:].any():
            found.add(SWAP)
        return tuple(sorted(found.union(self.folds)))
