"""Boolean circuits, written once against `CircuitBuilder` and then run in the clear, counted or garbled.

AND gates cost 32 bytes each and all the time; XOR and NOT are free ("free XOR" [FreeXOR]). So every circuit here is
judged by its AND gates alone.

>>> relu = relu_requantise(bits_in=8, shift=2, activation_bits=4, bits_out=8)
>>> relu.and_gates
19
>>> shares = [to_bits(np.array([word], dtype=np.uint64), 8) for word in (200, 120, 3)]
>>> from_bits(relu.evaluate_clear(np.concatenate(shares)))  # 200 + 120 = 64 mod 256, 64 >> 2 saturates at 15
array([12], dtype=uint64)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.protocol import _native

ZERO = -1
"""The builder's constant 0; wires are numbered from 0."""
ONE = -2
"""The builder's constant 1."""


class Operation(IntEnum):
    """What a gate computes; the numbers are those of the native core."""

    AND = 0
    XOR = 1
    NOT = 2


@dataclass(frozen=True, eq=False)  # no slots: `program` is made once, when first needed
class Circuit:
    """A circuit without constants.

    Attributes:
        gates: (gates, 3) int32, rows of operation, first and second input wire (equal for NOT). Gate g makes wire
            `inputs` + g and reads only wires made before.
        server_inputs: (inputs,) bool, true for the input wires whose bits the server knows (the client knows the rest).
        outputs: (outputs,) int32, the wires that leave the circuit.
    """

    gates: NDArray[np.int32]
    server_inputs: NDArray[np.bool_]
    outputs: NDArray[np.int32]

    @property
    def inputs(self) -> int:
        """How many input wires there are; they are wires 0 to `inputs` - 1."""
        return len(self.server_inputs)

    @property
    def and_gates(self) -> int:
        """How many gates cost anything."""
        return int(np.count_nonzero(self.gates[:, 0] == Operation.AND))

    @cached_property
    def program(self) -> _native.Program:
        """The circuit as the native core runs it.

        Raises:
            ValueError: if a gate reads a wire that is not made before it.
        """
        return _native.Program(self.gates, self.server_inputs, self.outputs)

    def evaluate_clear(self, bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Run the circuit on plain bits.

        Args:
            bits: (inputs, instances) of 0 and 1, in the order of the input wires.

        Returns:
            (outputs, instances) of 0 and 1.
        """
        wires = list(bits)
        for operation, a, b in self.gates.tolist():
            if operation == Operation.AND:
                wires.append(wires[a] & wires[b])
            elif operation == Operation.XOR:
                wires.append(wires[a] ^ wires[b])
            else:
                wires.append(wires[a] ^ np.uint8(1))
        return np.stack([wires[wire] for wire in self.outputs.tolist()])


class CircuitBuilder:
    """Adds gates to a circuit. A bit is the number of a wire, or one of the constants `ZERO` and `ONE`.

    Constants, repeated operands and complements are folded, so what is built holds only gates that are needed.
    """

    def __init__(self) -> None:
        self._server_inputs: list[bool] = []
        self._gates: list[tuple[int, int, int]] = []
        self._complement: dict[int, int] = {ZERO: ONE, ONE: ZERO}

    def inputs(self, count: int, *, server: bool) -> list[int]:
        """Add `count` input bits that the server (or else the client) knows; all inputs come before any gate."""
        if self._gates:
            raise ValueError("inputs come before gates; declare all inputs first")
        first = len(self._server_inputs)
        self._server_inputs += [server] * count
        return list(range(first, first + count))

    def _gate(self, operation: Operation, a: int, b: int) -> int:
        self._gates.append((operation, a, b))
        return len(self._server_inputs) + len(self._gates) - 1

    def not_(self, a: int) -> int:
        """Complement a bit (free)."""
        if a not in self._complement:
            made = self._gate(Operation.NOT, a, a)
            self._complement |= {a: made, made: a}
        return self._complement[a]

    def xor(self, a: int, b: int) -> int:
        """Sum two bits modulo 2 (free)."""
        for bit, other in ((a, b), (b, a)):
            if bit == ZERO:
                return other
            if bit == ONE:
                return self.not_(other)
        if a == b:
            return ZERO
        if self._complement.get(a) == b:
            return ONE
        return self._gate(Operation.XOR, a, b)

    def and_(self, a: int, b: int) -> int:
        """Multiply two bits (one AND gate unless it folds)."""
        for bit, other in ((a, b), (b, a)):
            if bit == ZERO:
                return ZERO
            if bit == ONE:
                return other
        if a == b:
            return a
        if self._complement.get(a) == b:
            return ZERO
        return self._gate(Operation.AND, a, b)

    def or_(self, a: int, b: int) -> int:
        """Disjunction of two bits (one AND gate)."""
        return self.not_(self.and_(self.not_(a), self.not_(b)))

    def any(self, bits: Sequence[int]) -> int:
        """Disjunction of all bits (one AND gate fewer than bits)."""
        result = ZERO
        for bit in bits:
            result = self.or_(result, bit)
        return result

    def majority(self, a: int, b: int, carry: int) -> int:
        """The carry out of a full adder, with one AND gate [KSS09]."""
        return self.xor(self.and_(self.xor(a, carry), self.xor(b, carry)), carry)

    def add(self, a: Sequence[int], b: Sequence[int]) -> list[int]:
        """(a + b) mod 2^width, little endian; width - 1 AND gates, as the last carry is dropped."""
        carry, result = ZERO, []
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            result.append(self.xor(self.xor(x, y), carry))
            if i < len(a) - 1:
                carry = self.majority(x, y, carry)
        return result

    def subtract(self, a: Sequence[int], b: Sequence[int]) -> list[int]:
        """(a - b) mod 2^width = not(not(a) + b), little endian; width - 1 AND gates."""
        return [self.not_(bit) for bit in self.add([self.not_(bit) for bit in a], b)]

    def build(self, outputs: Sequence[int]) -> Circuit:
        """Finish the circuit; gates that no output needs are dropped.

        Raises:
            ValueError: if an output is a constant, which needs no circuit.
        """
        if ZERO in outputs or ONE in outputs:
            raise ValueError("an output bit is constant; leave it out of the circuit")
        inputs = len(self._server_inputs)
        needed = set(outputs)
        for g in range(len(self._gates) - 1, -1, -1):
            if inputs + g in needed:
                needed |= set(self._gates[g][1:])
        number = {wire: wire for wire in range(inputs)}
        rows: list[tuple[int, int, int]] = []
        for g, (operation, a, b) in enumerate(self._gates):
            if inputs + g in needed:
                number[inputs + g] = inputs + len(rows)
                rows.append((operation, number[a], number[b]))
        return Circuit(
            gates=np.array(rows, dtype=np.int32).reshape(-1, 3),
            server_inputs=np.array(self._server_inputs, dtype=np.bool_),
            outputs=np.array([number[wire] for wire in outputs], dtype=np.int32),
        )


def _check_widths(bits_in: int, shift: int, activation_bits: int, bits_out: int) -> None:
    if not 1 <= bits_in <= 64:
        raise InvalidPolicy(f"bits_in = {bits_in}: a share has 1 to 64 bits")
    if not 0 <= shift < bits_in:
        raise InvalidPolicy(f"shift = {shift}: use 0 to {bits_in - 1}, so that a bit of the {bits_in} is kept")
    if not 1 <= activation_bits <= bits_out <= 64:
        raise InvalidPolicy(
            f"activation_bits = {activation_bits}, bits_out = {bits_out}: use 1 <= activation_bits <= bits_out <= 64"
        )


def _saturate_unsigned(builder: CircuitBuilder, kept: Sequence[int], bits: int) -> list[int]:
    """Clamp a signed number to [0, 2^bits - 1]; one AND gate for every kept bit but the sign."""
    *magnitude, sign = kept
    positive = builder.not_(sign)
    if len(magnitude) <= bits:
        return [builder.and_(bit, positive) for bit in magnitude]
    # Ones where it overflows, the bit where it fits, zeros where it is negative: two exclusive masks, one AND a bit.
    overflows = builder.and_(positive, builder.any(magnitude[bits:]))
    fits = builder.xor(positive, overflows)
    return [builder.xor(builder.and_(bit, fits), overflows) for bit in magnitude[:bits]]


def _saturate_signed(builder: CircuitBuilder, kept: Sequence[int], bits: int) -> list[int]:
    """Clamp a signed number to [-2^(bits-1), 2^(bits-1) - 1]; the result's last bit is its sign."""
    sign = kept[-1]
    if len(kept) <= bits:
        return list(kept)
    overflows = builder.any([builder.xor(bit, sign) for bit in kept[bits - 1 : -1]])
    limit = builder.not_(sign)  # every bit below the sign, of the largest or the smallest value
    low = [builder.xor(bit, builder.and_(overflows, builder.xor(bit, limit))) for bit in kept[: bits - 1]]
    return [*low, sign]


def relu_requantise(bits_in: int, shift: int, activation_bits: int, bits_out: int, *, relu: bool = True) -> Circuit:
    """Requantise a value shared modulo 2^bits_in and share it afresh modulo 2^bits_out.

    Inputs, each little endian: the server's share (bits_in bits), the client's share (bits_in), the server's mask r
    (bits_out). With v the sum of the shares modulo 2^bits_in, read in [-2^(bits_in-1), 2^(bits_in-1)), and
    q = floor(v / 2^shift): clamp q to [0, 2^activation_bits - 1] (ReLU), or to [-2^(activation_bits-1),
    2^(activation_bits-1) - 1] without ReLU. Outputs: (q - r) mod 2^bits_out, little endian.

    Raises:
        InvalidPolicy: if the widths do not fit together.
    """
    _check_widths(bits_in, shift, activation_bits, bits_out)
    builder = CircuitBuilder()
    server_share = builder.inputs(bits_in, server=True)
    client_share = builder.inputs(bits_in, server=False)
    mask = builder.inputs(bits_out, server=True)
    kept = builder.add(server_share, client_share)[shift:]
    if relu:
        value = _saturate_unsigned(builder, kept, activation_bits)
        extension = ZERO
    else:
        value = _saturate_signed(builder, kept, activation_bits)
        extension = value[-1]
    value += [extension] * (bits_out - len(value))
    return builder.build(builder.subtract(value, mask))


def relu_requantise_and_gates(
    bits_in: int, shift: int, activation_bits: int, bits_out: int, *, relu: bool = True
) -> int:
    """The AND gates of `relu_requantise`, in closed form.

    Adding takes bits_in - 1 (the dropped low bits still carry), clamping one for every kept bit but the sign (one
    fewer without ReLU, and none where the range cannot be exceeded), sharing bits_out - 1.

    >>> relu_requantise_and_gates(32, 0, 31, 32)  # all bits kept: 3 (l - 1)
    93
    """
    _check_widths(bits_in, shift, activation_bits, bits_out)
    kept = bits_in - shift
    if relu and kept == 1:  # nothing but a sign: the value is 0, and 0 - r needs no gate for its first borrow
        return max(bits_out - 2, 0)
    signed_clamp = kept - 2 if kept > activation_bits > 1 else 0
    return bits_in - 1 + (kept - 1 if relu else signed_clamp) + bits_out - 1


def to_bits(values: NDArray[np.uint64], width: int) -> NDArray[np.uint8]:
    """The lowest `width` bits of `values` (instances,) as (width, instances) of 0 and 1, little endian."""
    return _native.bits_of_words(np.ascontiguousarray(values), width)


def from_bits(bits: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The numbers (instances,) whose little-endian bits are the columns of `bits` (width, instances), at most 64."""
    return _native.words_of_bits(np.ascontiguousarray(bits))
