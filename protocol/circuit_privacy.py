"""What hides the weights from a client that looks at the noise of its responses (docs/protocol.md, "Circuit privacy").

| symbol | meaning |
|---|---|
| e, E | the noise of a sum before rerandomising, which depends on the weights; a public bound on its coefficients |
| B | the flooding noise is uniform in [-B, B) |
| R | the mask of `uniform`, uniform modulo the one prime q_1 that a response keeps |

`uniform` masks after switching to one limb: whatever was rounded before, c0 + R is uniform and independent of all
else, so the client learns nothing from it, and c1 is a function of the rerandomised c1, which is pseudorandom under
RLWE with the secret of the encryption of zero. The shares round(t (phase + R) / q_1) and -round(t R / q_1) are then
those of the one-limb protocol, run on the switched ciphertext.

`flood` adds noise to every coefficient of the sum. Shifting [-B, B) by at most E moves it by a statistical distance of
at most E / 2B; over the n coefficients of a response that is n E / 2B, which is made at most 2^-bits. What is added
independently of the weights (the encryption of zero), and what is done to the flooded sum (switching, dropping bits),
cannot make it more.
"""

from typing import Final, Literal, Self

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.common.records import record
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.randomness import BINOMIAL_BITS
from autoprivacy.protocol.wire import Response

_FLOOD: Final = "flood:"
MAX_FLOODING_BITS: Final = 128


@record
class CircuitPrivacy:
    """How responses are protected; `flooding_bits` is the statistical security of `flood`, and 0 otherwise.

    >>> CircuitPrivacy.parse("flood:40")
    CircuitPrivacy(kind='flood', flooding_bits=40)
    >>> str(CircuitPrivacy("uniform"))
    'uniform'
    """

    kind: Literal["none", "rerandomise", "uniform", "flood"]
    flooding_bits: int = 0

    def __post_init__(self) -> None:
        allowed = range(1, MAX_FLOODING_BITS + 1) if self.kind == "flood" else range(1)
        if self.flooding_bits not in allowed:
            raise InvalidPolicy(
                f"circuit privacy {self.kind!r} cannot have {self.flooding_bits} flooding bits; "
                f"flood:BITS takes 1 to {MAX_FLOODING_BITS}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what a policy says.

        Raises:
            InvalidPolicy: if it is none of the four forms.
        """
        match text:
            case "none" | "rerandomise" | "uniform":
                return cls(text)
        bits = text.removeprefix(_FLOOD)
        # One spelling of each number, since both parties compare policies as text.
        if text.startswith(_FLOOD) and len(bits) <= 3 and bits.isascii() and bits.isdigit() and bits[0] != "0":
            return cls("flood", int(bits))
        raise InvalidPolicy(
            f"circuit privacy {text!r} is none of: none, rerandomise, uniform, flood:BITS (for instance flood:40)"
        )

    def __str__(self) -> str:
        return f"{_FLOOD}{self.flooding_bits}" if self.kind == "flood" else self.kind

    def check(self, he_set: HeSet, response: Response, noise_bound: int) -> None:
        """Refuse what `he_set` has no room for; `noise_bound` is E, which only `flood` looks at.

        Raises:
            InvalidPolicy: naming what does not fit.
        """
        if self.kind == "uniform" and response.limbs > 1:
            raise InvalidPolicy("circuit privacy `uniform` needs a response of one limb")
        if self.kind != "flood":
            return
        if noise_bound < 1:
            raise InvalidPolicy(f"circuit privacy `{self}` needs a bound on the noise that it hides, got {noise_bound}")
        exponent = self.flood_exponent(he_set.n, noise_bound)
        worst = (1 << exponent) + noise_bound + zero_noise_bound(he_set.n) + 1
        if 2 * he_set.t * worst >= he_set.q:
            needed = (2 * he_set.t * worst).bit_length()
            raise InvalidPolicy(
                f"circuit privacy `{self}` over noise of {noise_bound.bit_length()} bits needs q of more than {needed} "
                f"bits at t = {he_set.t}, got {he_set.q_bits}; take more limbs, fewer flooding bits or `uniform`"
            )

    def flood_exponent(self, n: int, noise_bound: int) -> int:
        """log2 of B: the least with n E / 2B <= 2^-flooding_bits."""
        return (n * noise_bound - 1).bit_length() + self.flooding_bits - 1


UNIFORM: Final = CircuitPrivacy("uniform")


def zero_noise_bound(n: int) -> int:
    """The worst noise of an encryption of zero, u e_pk + e_0 + e_1 s: ternary u and s, noises of at most 21."""
    return (2 * n + 1) * (BINOMIAL_BITS // 2)
