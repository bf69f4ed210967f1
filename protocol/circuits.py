"""Circuits by name: the builder, the circuits of nonlinear layers, and the one for power-of-two moduli by its widths.

>>> import numpy as np
>>> relu = relu_requantise(bits_in=8, shift=2, activation_bits=4, bits_out=8)
>>> relu.and_gates
19
>>> shares = [to_bits(np.array([word], dtype=np.uint64), 8) for word in (200, 120, 3)]
>>> from_bits(relu.evaluate_clear(np.concatenate(shares)))  # 200 + 120 = 64 mod 256, 64 >> 2 saturates at 15
array([12], dtype=uint64)
"""

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.protocol.argmax_circuits import Argmax
from autoprivacy.protocol.circuit_builder import ONE, ZERO, Circuit, CircuitBuilder, Operation, from_bits, to_bits
from autoprivacy.protocol.nonlinear_circuits import Nonlinear

__all__ = [
    "ONE",
    "ZERO",
    "Argmax",
    "Circuit",
    "CircuitBuilder",
    "Nonlinear",
    "Operation",
    "from_bits",
    "relu_requantise",
    "relu_requantise_and_gates",
    "to_bits",
]


def _by_widths(bits_in: int, shift: int, activation_bits: int, bits_out: int, *, relu: bool) -> Nonlinear:
    for name, bits in (("bits_in", bits_in), ("bits_out", bits_out)):
        if not 1 <= bits <= 64:
            raise InvalidPolicy(f"{name} = {bits}: a share has 1 to 64 bits")
    return Nonlinear(1 << bits_in, shift, activation_bits, (1 << bits_out,), relu)


def relu_requantise(bits_in: int, shift: int, activation_bits: int, bits_out: int, *, relu: bool = True) -> Circuit:
    """Requantise a value shared modulo 2^bits_in and share it afresh modulo 2^bits_out: a `Nonlinear`'s circuit.

    Inputs, each little endian: the server's share (bits_in bits), the client's share (bits_in), the server's mask r
    (bits_out). With v the sum of the shares modulo 2^bits_in, read in [-2^(bits_in-1), 2^(bits_in-1)), and
    q = floor(v / 2^shift): clamp q to [0, 2^activation_bits - 1] (ReLU), or to [-2^(activation_bits-1),
    2^(activation_bits-1) - 1] without ReLU. Outputs: (q - r) mod 2^bits_out, little endian.

    Raises:
        InvalidPolicy: if the widths do not fit together.
    """
    return _by_widths(bits_in, shift, activation_bits, bits_out, relu=relu).circuit


def relu_requantise_and_gates(
    bits_in: int, shift: int, activation_bits: int, bits_out: int, *, relu: bool = True
) -> int:
    """The AND gates of `relu_requantise`, in closed form.

    >>> relu_requantise_and_gates(32, 0, 31, 32)  # all bits kept: 3 (l - 1)
    93
    """
    return _by_widths(bits_in, shift, activation_bits, bits_out, relu=relu).and_gates
