"""What can be chosen for each linear layer; only what passes security and holds the accumulators exists.

Per layer: an HE set, and the bits of its weights. The rest follows: t is the least that is safe, the tile the default
for the shape, activations have `ACTIVATION_BITS`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Final

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.networks.accumulators import least_modulus_bits
from autoprivacy.networks.checkpoint import TrainedNetwork
from autoprivacy.networks.data import Splits
from autoprivacy.networks.integer_network import LayerWidths, QuantisedNetwork, Widths
from autoprivacy.networks.quantisation import Quantiser, uniform_widths
from autoprivacy.protocol.agreeing import linear_shape
from autoprivacy.protocol.he_set import ntt_prime
from autoprivacy.protocol.policy import LayerPolicy, Policy, Provenance
from autoprivacy.protocol.tiles import default_tile

HE_CHOICES: Final = ((1024, 26), (2048, 53))
"""Ring degree and modulus bits, the largest that [HES24] allows for each."""

WEIGHT_BITS: Final = (4, 6, 8)
ACTIVATION_BITS: Final = 5
BASELINE_BITS: Final = 8


@dataclass(frozen=True, slots=True, order=True)
class Choice:
    """What is chosen for one linear layer."""

    n: int
    q_bits: int
    weight_bits: int


CHOICES: Final = tuple(Choice(n, q_bits, bits) for n, q_bits in HE_CHOICES for bits in WEIGHT_BITS)


@dataclass
class Space:
    """All policies of one trained network; quantisations are cached by their widths."""

    trained: TrainedNetwork
    data: Splits
    version: str
    profiles: tuple[str, ...]
    _quantised: dict[Widths, QuantisedNetwork] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the linear layers, in order."""
        return tuple(widths.layer for widths in uniform_widths(self.trained.network, BASELINE_BITS).layers)

    @cached_property
    def _quantiser(self) -> Quantiser:
        return Quantiser(self.trained, self.data.calibrate.x)

    def quantised(self, widths: Widths) -> QuantisedNetwork:
        """The network at some widths, calibrated on the calibrate split."""
        if widths not in self._quantised:
            self._quantised[widths] = self._quantiser.quantise(widths)
        return self._quantised[widths]

    @property
    def baseline(self) -> QuantisedNetwork:
        """The same checkpoint at 8 bits everywhere: what accuracy drops are measured from."""
        return self.quantised(uniform_widths(self.trained.network, BASELINE_BITS))

    def network(self, choices: tuple[Choice, ...]) -> QuantisedNetwork:
        """The network at the widths of `choices`."""
        return self.quantised(
            Widths(
                tuple(
                    LayerWidths(name, choice.weight_bits, ACTIVATION_BITS)
                    for name, choice in zip(self.layers, choices, strict=True)
                )
            )
        )

    def policy(self, choices: tuple[Choice, ...], *, method: str) -> Policy:
        """The policy of `choices`, one a layer.

        Raises:
            InvalidPolicy: if an HE set cannot hold the accumulators of its layer.
        """
        layers = {}
        network = self.network(choices)
        least = least_modulus_bits(network)
        for layer, choice in zip(network.linear_layers, choices, strict=True):
            chosen = LayerPolicy(
                packing="coefficients",
                n=choice.n,
                limbs=(ntt_prime(choice.n, choice.q_bits),),
                t=1 << least[layer.name],
                tile=default_tile(linear_shape(layer), choice.n),
                weight_bits=choice.weight_bits,
                activation_bits=ACTIVATION_BITS,
            )
            chosen.he_set("he2024")
            layers[layer.name] = chosen
        made_by = Provenance(
            version=self.version,
            method=method,
            profiles=self.profiles,
            objective="total",
            predicted_latency_s=None,
            accuracy_drop_upper=None,
        )
        return Policy(
            schema_version=1,
            network=self.trained.network.name,
            network_hash=self.trained.hash,
            circuit_privacy="uniform",
            security="he2024",
            layers=layers,
            made_by=made_by,
        )

    @property
    def size(self) -> int:
        """Combinations of choices, feasible or not."""
        size: int = len(CHOICES) ** len(self.layers)
        return size

    def all_choices(self) -> Iterator[tuple[Choice, ...]]:
        """Every combination of choices, feasible or not."""
        return product(CHOICES, repeat=len(self.layers))

    def policies(self, *, method: str) -> Iterator[tuple[tuple[Choice, ...], Policy]]:
        """Every feasible policy with its choices."""
        for choices in self.all_choices():
            try:
                yield choices, self.policy(choices, method=method)
            except InvalidPolicy:
                continue

    def one_set_for_all(self) -> tuple[Choice, ...]:
        """What a deployment without a search takes: the larger set and 8-bit weights in every layer."""
        n, q_bits = HE_CHOICES[-1]
        return (Choice(n, q_bits, BASELINE_BITS),) * len(self.layers)
