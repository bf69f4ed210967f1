"""A policy: everything that is chosen for every linear layer of one network, and its file."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.common.records import record
from autoprivacy.networks.integer_network import LayerWidths, Widths
from autoprivacy.protocol.circuit_privacy import CircuitPrivacy
from autoprivacy.protocol.he_interface import Packing
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.linear_layer import AnyTile, Layout, layout_of
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.security import SecurityLabel
from autoprivacy.protocol.wire import WHOLE_LIMB, Response

PrivacyText: TypeAlias = Annotated[str, Field(pattern="^(none|rerandomise|uniform|flood:[1-9][0-9]{0,2})$")]
"""What `CircuitPrivacy.parse` reads."""


@record
class LayerPolicy:
    """What is chosen for one linear layer.

    `limbs` are the data primes of q, `special` is the special prime that rotations need; `t` is the plaintext modulus.
    `response` says what is left of q in a response.
    """

    packing: Packing
    n: int
    limbs: Annotated[tuple[int, ...], Field(min_length=1)]
    t: int
    tile: AnyTile
    weight_bits: int
    activation_bits: int
    special: int | None = None
    response: Response = WHOLE_LIMB

    def he_set(self, security: SecurityLabel) -> HeSet:
        """The checked HE set; refused below `security`."""
        return HeSet(n=self.n, limbs=self.limbs, t=self.t, special=self.special, security=security)

    def check(self, shape: LinearShape, security: SecurityLabel, privacy: CircuitPrivacy) -> None:
        """Refuse what cannot run on a layer of this shape.

        Raises:
            InsecureParameters: below `security`.
            InvalidPolicy: if set, packing, tile, response and circuit privacy do not fit together.
        """
        he_set = self.he_set(security)
        self.response.check(he_set)
        if self.packing == "slots":
            he_set.require_slots()
        if privacy.kind == "uniform" and self.response.limbs > 1:
            raise InvalidPolicy("circuit privacy `uniform` needs a response of one limb")
        self.layout(shape)

    def layout(self, shape: LinearShape) -> Layout:
        """Where the values of a layer of this shape sit; refused if the tile does not fit."""
        return layout_of(shape, self.packing, self.tile, self.n)


@record
class Provenance:
    """Who made a policy, from what, and what it promised."""

    version: str
    method: str
    profiles: tuple[str, ...]
    objective: Literal["total", "online"]
    predicted_latency_s: float | None
    accuracy_drop_upper: float | None


@record
class Policy:
    """A layer policy for every linear layer of the network whose hash is `network_hash`."""

    schema_version: Literal[1]
    network: str
    network_hash: str
    circuit_privacy: PrivacyText
    security: SecurityLabel
    layers: dict[str, LayerPolicy]
    made_by: Provenance

    def widths(self) -> Widths:
        """The bit widths that the network is quantised to."""
        return Widths(
            tuple(LayerWidths(name, chosen.weight_bits, chosen.activation_bits) for name, chosen in self.layers.items())
        )
