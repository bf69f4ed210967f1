"""A policy: everything that is chosen for every linear layer of one network, and its file.

`agree` turns a quantised network and a policy into what both parties must know and compare: the `Agreement`.
"""

import hashlib
from math import prod
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.common.records import record, to_json
from autoprivacy.networks.accumulators import least_modulus_bits
from autoprivacy.networks.integer_network import LayerWidths, QuantisedNetwork, Stage, Widths
from autoprivacy.protocol.circuit_privacy import CircuitPrivacy
from autoprivacy.protocol.he_interface import Packing
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.linear_layer import AnyTile, Layout, layout_of
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.security import SecurityLabel
from autoprivacy.protocol.wire import WHOLE_LIMB, Response

PROTOCOL_VERSION: Final = 3

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
    objective: Literal["total"]
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


@record
class Nonlinear:
    """ReLU (or nothing), then bits dropped, then saturation to `bits`; shares modulo `t_out` come out.

    `shifts` says by output channel how many bits are dropped.
    """

    shifts: tuple[int, ...]
    bits: int
    relu: bool
    t_out: int


@record
class AgreedLayer:
    """One linear layer and what follows it, as both parties know it; the last layer opens its logits."""

    name: str
    shape: LinearShape
    policy: LayerPolicy
    nonlinear: Nonlinear | None

    @property
    def layout(self) -> Layout:
        """Where values sit; refused if the tile does not fit."""
        return self.policy.layout(self.shape)


@record
class Agreement:
    """All that is public: the client learns this and its logits."""

    protocol_version: int
    network: str
    network_hash: str
    circuit_privacy: PrivacyText
    security: SecurityLabel
    input_shape: tuple[int, int, int]
    input_bits: int
    input_step: float
    logit_scale: float
    layers: tuple[AgreedLayer, ...]

    def __post_init__(self) -> None:
        if not self.layers:
            raise InvalidPolicy("a network needs at least one linear layer")
        if prod(self.input_shape) != self.layers[0].shape.input_values:
            raise InvalidPolicy(f"an input of shape {self.input_shape} does not fit layer {self.layers[0].name}")
        for layer, following in zip(self.layers, (*self.layers[1:], None), strict=True):
            layer.policy.check(layer.shape, self.security, self.privacy)
            if layer.policy.t & (layer.policy.t - 1):
                raise InvalidPolicy(
                    f"layer {layer.name}: t = {layer.policy.t} is no power of two, as circuits on its shares need"
                )
            if (layer.nonlinear is None) != (following is None):
                raise InvalidPolicy(f"layer {layer.name}: only the last layer, and no other, opens its output")
            if following and layer.shape.output_values != following.shape.input_values:
                raise InvalidPolicy(
                    f"layer {layer.name} yields {layer.shape.output_values} values, "
                    f"layer {following.name} takes {following.shape.input_values}"
                )
            if layer.nonlinear and len(layer.nonlinear.shifts) != layer.shape.out_channels:
                raise InvalidPolicy(
                    f"layer {layer.name}: {len(layer.nonlinear.shifts)} shifts for {layer.shape.out_channels} channels"
                )
            if layer.nonlinear and following and layer.nonlinear.t_out != following.policy.t:
                raise InvalidPolicy(
                    f"layer {layer.name}: shares modulo {layer.nonlinear.t_out} meet t = {following.policy.t}"
                )

    @property
    def privacy(self) -> CircuitPrivacy:
        """How responses are protected."""
        return CircuitPrivacy.parse(self.circuit_privacy)

    def digest(self) -> bytes:
        """SHA-256 of the canonical JSON: what both parties compare before anything else."""
        return hashlib.sha256(to_json(self, indent=None).encode()).digest()


def linear_shape(stage: Stage) -> LinearShape:
    """The public shape of a stage's linear layer."""
    channels, height, width = stage.input_shape
    return LinearShape(
        in_channels=channels,
        height=height,
        width=width,
        out_channels=stage.output_shape[0],
        kernel=(stage.weight.shape[2], stage.weight.shape[3]),
        stride=stage.stride,
        padding=stage.padding,
        groups=stage.groups,
    )


def agree(network: QuantisedNetwork, policy: Policy) -> Agreement:
    """Check `policy` against the network quantised to its widths.

    Raises:
        InvalidPolicy: another network, missing or unknown layers, a t that does not hold the accumulators.
        InsecureParameters: an HE set below the policy's security label.
    """
    if policy.network_hash != network.trained_hash:
        raise InvalidPolicy(
            f"the policy was made for network {policy.network} ({policy.network_hash[:12]}), "
            f"this one is {network.trained_hash[:12]}; search again for it"
        )
    stages = network.stages
    names = [stage.name for stage in stages]
    if set(names) != set(policy.layers):
        raise InvalidPolicy(f"the policy has layers {sorted(policy.layers)}, the network {sorted(names)}")
    if network.widths != policy.widths():
        raise InvalidPolicy("the policy's layers do not have the order and widths that the network was quantised to")
    layers = []
    least = least_modulus_bits(network)
    for stage, following in zip(stages, (*stages[1:], None), strict=True):
        chosen, bits = policy.layers[stage.name], least[stage.name]
        if chosen.t < 1 << bits:
            raise InvalidPolicy(f"layer {stage.name}: t = {chosen.t} would wrap; its accumulators need t = 2^{bits}")
        nonlinear = None
        if stage.requantise is not None and following is not None:
            after = stage.requantise
            t_out = policy.layers[following.name].t
            nonlinear = Nonlinear(shifts=tuple(after.shifts.tolist()), bits=after.bits, relu=after.relu, t_out=t_out)
        layers.append(AgreedLayer(stage.name, linear_shape(stage), chosen, nonlinear))
    return Agreement(
        protocol_version=PROTOCOL_VERSION,
        network=policy.network,
        network_hash=policy.network_hash,
        circuit_privacy=policy.circuit_privacy,
        security=policy.security,
        input_shape=network.input_shape,
        input_bits=stages[0].input_bits,
        input_step=network.input_step,
        logit_scale=network.logit_scale,
        layers=tuple(layers),
    )
