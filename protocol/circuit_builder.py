"""Boolean circuits, written once against `CircuitBuilder` and then run in the clear, counted or garbled.

AND gates cost 32 bytes each and all the time; XOR and NOT are free ("free XOR" [FreeXOR]). So every circuit here is
judged by its AND gates alone.

>>> builder = CircuitBuilder()
>>> sum_of_two = builder.add(builder.inputs(8, server=True), builder.inputs(8, server=False))
>>> circuit = builder.build(sum_of_two)
>>> circuit.and_gates
7
>>> words = [to_bits(np.array([word], dtype=np.uint64), 8) for word in (200, 120)]
>>> from_bits(circuit.evaluate_clear(np.concatenate(words)))  # 320 - 256
array([64], dtype=uint64)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

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

    @cached_property
    def server_count(self) -> int:
        """How many input wires are the server's."""
        return int(np.count_nonzero(self.server_inputs))

    @cached_property
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

    def add_with_carry(self, a: Sequence[int], b: Sequence[int]) -> list[int]:
        """The sum a + b, one bit longer than they are; an AND gate a bit."""
        return self.add([*a, ZERO], [*b, ZERO])

    def subtract(self, a: Sequence[int], b: Sequence[int]) -> list[int]:
        """(a - b) mod 2^width = not(not(a) + b), little endian; width - 1 AND gates."""
        return [self.not_(bit) for bit in self.add([self.not_(bit) for bit in a], b)]

    def less(self, a: Sequence[int], b: Sequence[int]) -> int:
        """Whether a < b, both unsigned: the borrow of a - b; an AND gate a bit."""
        borrow = ZERO
        for x, y in zip(a, b, strict=True):
            borrow = self.majority(self.not_(x), y, borrow)
        return borrow

    def exceeds(self, bits: Sequence[int], limit: int) -> int:
        """Whether an unsigned number is above a constant: an AND gate a bit above the lowest 0 of the constant."""
        above = ZERO
        for i, bit in enumerate(bits):
            above = self.and_(bit, above) if limit >> i & 1 else self.or_(bit, above)
        return ZERO if limit >> len(bits) else above

    def select(self, condition: int, a: Sequence[int], b: Sequence[int]) -> list[int]:
        """Choose `a` where the condition is 1, else `b`; an AND gate for every bit in which they may differ."""
        return [self.xor(y, self.and_(condition, self.xor(x, y))) for x, y in zip(a, b, strict=True)]

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


def to_bits(values: NDArray[np.uint64], width: int) -> NDArray[np.uint8]:
    """The lowest `width` bits of `values` (instances,) as (width, instances) of 0 and 1, little endian."""
    return _native.bits_of_words(np.ascontiguousarray(values), width)


def from_bits(bits: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The numbers (instances,) whose little-endian bits are the columns of `bits` (width, instances), at most 64."""
    return _native.words_of_bits(np.ascontiguousarray(bits))
