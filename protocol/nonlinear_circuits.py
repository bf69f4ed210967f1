"""The circuit of a nonlinear layer for any modulus: add shares, requantise, take the maximum of a window, share afresh.

| symbol | meaning |
|---|---|
| t | modulus of the shares that come in: 2^l, or odd (a prime), then l is its length in bits |
| v | the value, the sum of both shares modulo t, read in [-t/2, t/2) or, for odd t, in [-(t-1)/2, (t-1)/2] |
| k | bits kept of v: l less the shift |
| y | the requantised value: floor(v / 2^shift), saturated |
| w | values in a window, of which the greatest leaves the circuit |
| r | a mask, uniform modulo a modulus that y is shared in; its owner keeps it, the other party gets y - r |

**Odd t.** The server gives its share plus (t-1)/2 modulo t. The sum s of both inputs is then v + (t-1)/2, or t more;
one comparison says which, and one subtraction of a constant that depends on it gives v in two's complement,
sign and all: 3l - 1 AND gates, none for the sign. Sharing subtracts r and adds t back after a borrow: 2l - 1. A value
without ReLU is shared from its distance to the least possible one, which the server adds to its mask: never negative.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.protocol.circuit_builder import ONE, ZERO, Circuit, CircuitBuilder, from_bits, to_bits

Words = NDArray[np.uint64]
Party: TypeAlias = Literal["server", "client"]
MAX_MODULUS = 1 << 64


def is_power(modulus: int) -> bool:
    """Whether a modulus is a power of two."""
    return modulus & (modulus - 1) == 0


def width_of(modulus: int) -> int:
    """Bits of a share."""
    return (modulus - 1).bit_length()


def check_modulus(modulus: int, what: str) -> None:
    """Refuse what shares cannot be taken modulo.

    Raises:
        InvalidPolicy: naming the modulus.
    """
    if not 2 <= modulus <= MAX_MODULUS or not (is_power(modulus) or modulus % 2):
        raise InvalidPolicy(f"{what} = {modulus}: use a power of two up to 2^64, or an odd number below it")


def add_shares(builder: CircuitBuilder, server: Sequence[int], client: Sequence[int], modulus: int) -> list[int]:
    """The value v in two's complement, as many bits as a share has (see the module)."""
    if is_power(modulus):
        return builder.add(server, client)
    half, width = modulus // 2, len(server)
    total = builder.add_with_carry(server, client)
    wraps = builder.exceeds(total, modulus - 1)
    # What is subtracted: half, and the modulus too if the sum reached it.
    kinds = {(0, 0): ZERO, (1, 1): ONE, (0, 1): wraps, (1, 0): builder.not_(wraps)}
    constant = [kinds[half >> i & 1, half + modulus >> i & 1] for i in range(width)]
    return builder.subtract(total[:width], constant)


def add_shares_and_gates(modulus: int) -> int:
    """AND gates of `add_shares`."""
    width = width_of(modulus)
    return width - 1 if is_power(modulus) else 3 * width - 1


def greater(builder: CircuitBuilder, a: Sequence[int], b: Sequence[int], *, signed: bool) -> int:
    """Whether b > a, both unsigned or both in two's complement; an AND gate a bit."""
    if signed:  # with the sign turned round, two's complement is in order
        a, b = [*a[:-1], builder.not_(a[-1])], [*b[:-1], builder.not_(b[-1])]
    return builder.less(a, b)


def _maximum(builder: CircuitBuilder, values: Sequence[list[int]], *, signed: bool) -> list[int]:
    best, *rest = values
    for value in rest:
        best = builder.select(greater(builder, best, value, signed=signed), value, best)
    return best


@dataclass(frozen=True)  # no slots: the circuit is made once, when first needed
class Nonlinear:
    """What a nonlinear layer does with one instance, and the circuit that does it.

    As `networks.integer_network.Requantise`: floor(v / 2^shift), saturated to [0, 2^bits - 1] after ReLU (or to
    [0, maximum]), else to [-2^(bits-1), 2^(bits-1) - 1]. Then the greatest of `window` values, shared in each of
    `moduli_out`.

    Inputs of the circuit: the server's encoded shares, value after value; the client's shares; the encoded masks of
    `masked_by`, modulus after modulus. Each is as wide as its modulus, little endian. Outputs: the other party's new
    shares, likewise.

    Raises:
        InvalidPolicy: if widths and moduli do not fit together.
    """

    modulus_in: int
    shift: int
    bits: int
    moduli_out: tuple[int, ...]
    relu: bool = True
    maximum: int | None = None
    window: int = 1
    masked_by: Party = "server"

    def __post_init__(self) -> None:
        check_modulus(self.modulus_in, "modulus_in")
        if not 0 <= self.shift < self.width_in:
            raise InvalidPolicy(f"shift = {self.shift}: use 0 to {self.width_in - 1}, so that a bit is kept")
        if not self.moduli_out or self.window < 1:
            raise InvalidPolicy("moduli_out and window: give at least one modulus, and one value a window")
        for modulus in self.moduli_out:
            check_modulus(modulus, "modulus_out")
            if self.bits < 1 or 1 << self.bits > modulus:
                raise InvalidPolicy(
                    f"activation_bits = {self.bits}: values of that width do not fit modulo {modulus}; use 1 to "
                    f"{modulus.bit_length() - 1}"
                )
        if self.maximum is not None and not (self.relu and 1 <= self.maximum < 1 << self.bits):
            raise InvalidPolicy(f"maximum = {self.maximum}: use 1 to {(1 << self.bits) - 1}, and only with ReLU")

    @property
    def width_in(self) -> int:
        """Bits of a share that comes in."""
        return width_of(self.modulus_in)

    @property
    def _limit(self) -> int:
        """The greatest value after ReLU."""
        return (1 << self.bits) - 1 if self.maximum is None else self.maximum

    @property
    def _kept(self) -> int:
        return self.width_in - self.shift

    @property
    def _value_bits(self) -> int:
        """Bits that can be set in y; in two's complement without ReLU."""
        return min(self._kept - 1, self._limit.bit_length()) if self.relu else min(self._kept, self.bits)

    @cached_property
    def circuit(self) -> Circuit:
        """The circuit of one instance."""
        builder = CircuitBuilder()
        server = [builder.inputs(self.width_in, server=True) for _ in range(self.window)]
        client = [builder.inputs(self.width_in, server=False) for _ in range(self.window)]
        by_server = self.masked_by == "server"
        masks = [builder.inputs(width_of(modulus), server=by_server) for modulus in self.moduli_out]
        kept = [add_shares(builder, a, b, self.modulus_in)[self.shift :] for a, b in zip(server, client, strict=True)]
        if self._maximum_first:
            value = self._clamp(builder, _maximum(builder, kept, signed=True))
        else:
            value = _maximum(builder, [self._clamp(builder, bits) for bits in kept], signed=not self.relu)
        shares = [self._share(builder, value, m, mask) for m, mask in zip(self.moduli_out, masks, strict=True)]
        return builder.build([bit for share in shares for bit in share])

    def _clamp(self, builder: CircuitBuilder, kept: Sequence[int]) -> list[int]:
        *magnitude, sign = kept
        if self.relu:
            positive = builder.not_(sign)
            # Two exclusive masks, so that one AND a bit does: too great, and neither too great nor negative.
            over = builder.and_(positive, builder.exceeds(magnitude, self._limit))
            fits = builder.xor(positive, over)
            return [
                builder.xor(builder.and_(bit, fits), over if self._limit >> i & 1 else ZERO)
                for i, bit in enumerate(magnitude[: self._value_bits])
            ]
        if len(kept) <= self.bits:
            return list(kept)
        over = builder.any([builder.xor(bit, sign) for bit in kept[self.bits - 1 : -1]])
        end = builder.not_(sign)  # every bit below the sign, of the largest or the smallest value
        low = [builder.xor(bit, builder.and_(over, builder.xor(bit, end))) for bit in kept[: self.bits - 1]]
        return [*low, sign]

    def _share(self, builder: CircuitBuilder, value: Sequence[int], modulus: int, mask: Sequence[int]) -> list[int]:
        """(y - r) mod `modulus`; the mask is encoded."""
        missing = len(mask) - len(value)
        if is_power(modulus):
            return builder.subtract([*value, *[ZERO if self.relu else value[-1]] * missing], mask)
        if not self.relu:  # the distance to the least value
            value = [*value[:-1], builder.not_(value[-1])]
        value = [*value, *[ZERO] * missing]
        difference = builder.subtract([*value, ZERO], [*mask, ZERO])
        borrow = difference.pop()
        return builder.add(difference, [borrow if modulus >> i & 1 else ZERO for i in range(len(mask))])

    @property
    def _clamp_and_gates(self) -> int:
        kept, limit = self._kept, self._limit
        if self.relu:
            ones = (~limit & (limit + 1)).bit_length() - 1  # trailing ones, which nothing exceeds
            return (0 if limit >> (kept - 1) else kept - 1 - ones) + self._value_bits
        return kept - 2 if kept > self.bits > 1 else 0

    @property
    def _order_and_gates(self) -> tuple[int, int]:
        """Clamping and maxima: each value clamped first, or the greatest of them only."""
        merges = self.window - 1
        first = self.window * self._clamp_and_gates + 2 * merges * self._value_bits
        return first, self._clamp_and_gates + 2 * merges * self._kept

    @property
    def _maximum_first(self) -> bool:
        clamp_first, maximum_first = self._order_and_gates
        return maximum_first < clamp_first

    @property
    def and_gates(self) -> int:
        """AND gates of the circuit, in closed form.

        Adding shares takes l - 1 a value, or 3l - 1 for odd t; clamping after ReLU one for every kept bit but the sign
        (one fewer without ReLU, none where the range cannot be exceeded); a maximum two a bit; sharing l - 1, or
        2l - 1 for odd moduli.

        >>> Nonlinear(1 << 32, 0, 31, (1 << 32,)).and_gates  # ReLU, all bits kept, 3 (l - 1)
        93
        >>> Nonlinear(4294967291, 0, 31, (4294967291,)).and_gates  # for a prime 6l - 3
        189
        """
        nothing = self._value_bits == 0  # only a sign was kept: y = 0, and the first borrow of 0 - r needs no gate
        sharing = 0
        for modulus in self.moduli_out:
            width = width_of(modulus)
            sharing += max(width - 1 - nothing, 0) if is_power(modulus) else 2 * width - 1 - nothing
        if nothing:
            return sharing
        return self.window * add_shares_and_gates(self.modulus_in) + min(self._order_and_gates) + sharing

    @property
    def client_inputs(self) -> int:
        """Input bits that come from the client."""
        own = self.width_in * self.window
        return own + (sum(map(width_of, self.moduli_out)) if self.masked_by == "client" else 0)

    def server_bits(self, shares: Words, masks: Words | None = None) -> NDArray[np.uint8]:
        """The server's input bits, for `shares` (window, instances), and `masks` (moduli, instances) if it masks."""
        half = np.uint64(0 if is_power(self.modulus_in) else self.modulus_in // 2)
        encoded = [to_bits(add_modulo(row, half, self.modulus_in), self.width_in) for row in shares]
        return np.concatenate([*encoded, *self._mask_bits("server", masks)])

    def client_bits(self, shares: Words, masks: Words | None = None) -> NDArray[np.uint8]:
        """The client's input bits (inputs, instances), likewise."""
        encoded = [to_bits(row, self.width_in) for row in shares]
        return np.concatenate([*encoded, *self._mask_bits("client", masks)])

    def _mask_bits(self, owner: Party, masks: Words | None) -> list[NDArray[np.uint8]]:
        found = []
        expected = self.moduli_out if owner == self.masked_by else ()
        for modulus, mask in zip(expected, () if masks is None else masks, strict=True):
            offset = 0 if self.relu or is_power(modulus) else 1 << (self._value_bits - 1)
            found.append(to_bits(add_modulo(mask, np.uint64(offset), modulus), width_of(modulus)))
        return found

    def shares_of(self, outputs: NDArray[np.uint8]) -> Words:
        """The new shares (moduli, instances) of who does not mask, from the output bits (outputs, instances)."""
        ends = np.cumsum([width_of(modulus) for modulus in self.moduli_out])
        return np.stack([from_bits(part) for part in np.split(outputs, ends[:-1])])


def add_modulo(words: Words, constant: np.uint64, modulus: int) -> Words:
    """(words + constant) mod `modulus`, for words below it."""
    if not constant:
        return words
    rest = np.uint64(modulus) - constant
    return np.where(words >= rest, words - rest, words + constant)
