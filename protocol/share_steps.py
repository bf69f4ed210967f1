"""What each party does alone with its shares: sums, means and views, which need no message."""

from dataclasses import dataclass, field

import numpy as np

from autoprivacy.networks.convolution import window_sum
from autoprivacy.networks.integer_network import Image
from autoprivacy.protocol.agreement import AgreedSum, AgreedView, AgreedWindowSum, Agreement, moduli, reduces
from autoprivacy.protocol.linear_shape import IntArray


@dataclass(slots=True)
class Shares:
    """One party's shares of all values of an inference: each (C, H, W), once for every modulus that a value has.

    A server holds no share of the input, nor of what is made of it alone: None stands for zeros there.
    """

    agreement: Agreement
    moduli: dict[str, tuple[int, ...]] = field(init=False)
    _shapes: dict[str, Image] = field(init=False)
    _held: dict[tuple[str, int], IntArray] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.moduli = moduli(self.agreement)
        self._shapes = self.agreement.shapes

    def keep(self, name: str, share: IntArray, modulus: int) -> None:
        """Keep a share of a value modulo one of its moduli, given in any representation and shape."""
        self._held[name, modulus] = share.reshape(self._shapes[name]) % modulus

    def read(self, name: str, modulus: int) -> IntArray | None:
        """The share of a value modulo what a reader needs; None where it is zero."""
        for own in self.moduli[name]:
            if reduces(own, modulus) and (name, own) in self._held:
                return self._held[name, own] % modulus
        return None

    def take(self, step: AgreedSum | AgreedWindowSum | AgreedView, constant: IntArray | None = None) -> None:
        """Compute the share of a step's value; `constant` (C,) is what the server adds to a sum."""
        for modulus in self.moduli[step.name]:
            if isinstance(step, AgreedSum):
                self.keep(step.name, self._sum(step, constant, modulus), modulus)
                continue
            entering = self.read(step.source, modulus)
            if entering is not None:
                self.keep(step.name, _rearranged(step, entering), modulus)

    def _sum(self, step: AgreedSum, constant: IntArray | None, modulus: int) -> IntArray:
        total: IntArray = np.zeros(self._shapes[step.name], np.int64)
        if constant is not None:
            total += constant[:, None, None]
        for term in step.terms:
            share = self.read(term.source, modulus)
            if share is not None:
                total = (total + shifted(share, np.array(term.shifts)[:, None, None], modulus)) % modulus
        return total


def _rearranged(step: AgreedWindowSum | AgreedView, entering: IntArray) -> IntArray:
    if isinstance(step, AgreedView):
        return entering.reshape(step.shape)
    windows = step.windows
    summed: IntArray = window_sum(entering[None], windows.kernel, windows.stride, windows.padding)[0]
    return summed


def shifted(share: IntArray, shifts: IntArray, modulus: int) -> IntArray:
    """Shares in [0, modulus), modulus below 2^60, times 2^shifts, without ever leaving 64 bits.

    >>> shifted(np.array([5, 5]), np.array([1, 40]), 97)
    array([10, 83])
    """
    found, left = share, np.broadcast_to(shifts, share.shape)
    while left.any():
        step = np.minimum(left, 3)
        found, left = np.left_shift(found, step) % modulus, left - step
    return found
