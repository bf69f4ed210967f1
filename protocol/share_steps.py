"""What each party does alone with its shares: sums, means and views, which need no message."""

from dataclasses import dataclass, field

import numpy as np

from autoprivacy.networks.convolution import window_sum
from autoprivacy.networks.graph import INPUT
from autoprivacy.protocol.agreement import AgreedSum, AgreedView, AgreedWindowSum, Agreement, moduli
from autoprivacy.protocol.linear_shape import IntArray


@dataclass(slots=True)
class Shares:
    """One party's shares of all values of an inference, each (C, H, W) modulo its own modulus.

    A server holds no share of the input, nor of what is made of it alone: None stands for zeros there.
    """

    agreement: Agreement
    moduli: dict[str, int] = field(init=False)
    _held: dict[str, IntArray | None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.moduli = moduli(self.agreement)
        self._held[INPUT] = None

    def keep(self, name: str, share: IntArray) -> None:
        """Keep a share of a value, given in any representation modulo its modulus."""
        self._held[name] = share % self.moduli[name]

    def read(self, name: str, modulus: int) -> IntArray | None:
        """The share of a value modulo a divisor of its modulus; None where it is zero."""
        held = self._held[name]
        return None if held is None else held % modulus

    def take(self, step: AgreedSum | AgreedWindowSum | AgreedView, constant: IntArray | None = None) -> None:
        """Compute the share of a step's value; `constant` (C,) is what the server adds to a sum."""
        if isinstance(step, AgreedSum):
            self._add_up(step, constant)
            return
        entering = self._held[step.source]
        if entering is None:
            self._held[step.name] = None
        elif isinstance(step, AgreedView):
            self.keep(step.name, entering.reshape(step.shape))
        else:
            windows = step.windows
            self.keep(step.name, window_sum(entering[None], windows.kernel, windows.stride, windows.padding)[0])

    def _add_up(self, step: AgreedSum, constant: IntArray | None) -> None:
        modulus = self.moduli[step.name]
        shape = self.agreement.shapes[step.name]
        total = np.zeros(shape, np.int64)
        if constant is not None:
            total += constant[:, None, None]
        for term in step.terms:
            share = self.read(term.source, modulus)
            if share is not None:
                # Shifted bits beyond 64 are beyond the modulus too, which is a power of two.
                total += share << np.array(term.shifts, np.int64)[:, None, None]
                total %= modulus
        self.keep(step.name, total)
