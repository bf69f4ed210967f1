"""The circuit that opens which of several shared values is the greatest, and nothing else."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.protocol.circuit_builder import ZERO, Circuit, CircuitBuilder, from_bits, to_bits
from autoprivacy.protocol.nonlinear_circuits import (
    Words,
    add_modulo,
    add_shares,
    add_shares_and_gates,
    check_modulus,
    greater,
    is_power,
    width_of,
)


@dataclass(frozen=True)  # no slots: the circuit is made once, when first needed
class Argmax:
    """The first of the greatest of `classes` values shared modulo `modulus` (values as in `nonlinear_circuits`).

    A tournament: a comparison takes an AND gate a bit, passing on the greater another one; the index of the winner
    takes one for each bit that its place in the tournament does not decide. Outputs: the index, little endian,
    unmasked.

    Raises:
        InvalidPolicy: for fewer than two classes, or no modulus of shares.
    """

    modulus: int
    classes: int

    def __post_init__(self) -> None:
        check_modulus(self.modulus, "modulus")
        if self.classes < 2:
            raise InvalidPolicy(f"classes = {self.classes}: there is nothing to choose from")

    @cached_property
    def circuit(self) -> Circuit:
        """The circuit of one instance."""
        builder, width = CircuitBuilder(), width_of(self.modulus)
        server = [builder.inputs(width, server=True) for _ in range(self.classes)]
        client = [builder.inputs(width, server=False) for _ in range(self.classes)]
        field: list[tuple[list[int], list[int]]] = [
            (add_shares(builder, a, b, self.modulus), []) for a, b in zip(server, client, strict=True)
        ]
        while len(field) > 1:
            winners = [_winner(builder, *field[i : i + 2]) for i in range(0, len(field) - 1, 2)]
            if len(field) % 2:  # without a rival: the last of its round
                value, index = field[-1]
                winners.append((value, [*index, ZERO]))
            field = winners
        return builder.build(field[0][1])

    @property
    def and_gates(self) -> int:
        """AND gates of the circuit.

        >>> Argmax(1 << 20, 10).and_gates
        537
        """
        width, gates, entrants, level = width_of(self.modulus), 0, self.classes, 0
        while entrants > 1:
            rivals, last = entrants // 2, entrants == 2
            gates += rivals * (width + (0 if last else width) + level)
            entrants, level = -(-entrants // 2), level + 1
        return self.classes * add_shares_and_gates(self.modulus) + gates

    def server_bits(self, shares: Words) -> NDArray[np.uint8]:
        """The server's input bits (inputs, instances), for its `shares` (classes, instances)."""
        half = np.uint64(0 if is_power(self.modulus) else self.modulus // 2)
        return np.concatenate([to_bits(add_modulo(row, half, self.modulus), width_of(self.modulus)) for row in shares])

    def client_bits(self, shares: Words) -> NDArray[np.uint8]:
        """The client's input bits (inputs, instances), for its `shares` (classes, instances)."""
        return np.concatenate([to_bits(row, width_of(self.modulus)) for row in shares])

    def indices_of(self, outputs: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The indices (instances,), of the circuit's output bits (outputs, instances)."""
        return from_bits(outputs).astype(np.int64)


def _winner(
    builder: CircuitBuilder, left: tuple[list[int], list[int]], right: tuple[list[int], list[int]]
) -> tuple[list[int], list[int]]:
    """The greater value and its index within the pair; the left one of equals."""
    wins = greater(builder, left[0], right[0], signed=True)
    return builder.select(wins, right[0], left[0]), [*builder.select(wins, right[1], left[1]), wins]
