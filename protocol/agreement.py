"""What both parties must know and compare before anything else: the graph of a private run, without its weights.

| symbol | meaning |
|---|---|
| value | a tensor (C, H, W), additively shared; the quantised image is `INPUT` |
| modulus of a value | what its shares are modulo: the largest that a reader needs; others reduce both shares |
| accumulator | a value before a circuit: layers that meet in it have one modulus, t |
| activation | a value that came out of a circuit, or was made of such ones alone |
"""

import hashlib
from collections.abc import Collection, Mapping
from math import prod
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.common.records import record, to_json
from autoprivacy.networks.graph import INPUT, Padding, Pair
from autoprivacy.networks.integer_network import Image, Range
from autoprivacy.protocol.circuit_privacy import CircuitPrivacy
from autoprivacy.protocol.he_set import MAX_T
from autoprivacy.protocol.linear_layer import Layout
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.nonlinear_circuits import check_modulus
from autoprivacy.protocol.policy import LayerPolicy, PrivacyText
from autoprivacy.protocol.security import SecurityLabel

PROTOCOL_VERSION: Final = 4
MOST_SHIFT: Final = 53
MOST_BITS: Final = 16


@record
class AgreedLayer:
    """One linear layer, evaluated under homomorphic encryption."""

    name: str
    source: str
    shape: LinearShape
    policy: LayerPolicy
    kind: Literal["linear"] = "linear"

    @property
    def layout(self) -> Layout:
        """Where values sit; refused if the tile does not fit."""
        return self.policy.layout(self.shape)

    @property
    def output_shape(self) -> Image:
        """(C, H, W)."""
        return (self.shape.out_channels, *self.shape.out_size)


@record
class Term:
    """One value of a sum, and by how many bits each of its channels is shifted left."""

    source: str
    shifts: tuple[int, ...]


@record
class AgreedSum:
    """A sum of values on shares; its constant is the server's own."""

    name: str
    terms: tuple[Term, ...]
    kind: Literal["sum"] = "sum"


@record
class Windows:
    """Windows of a pooling."""

    kernel: Pair
    stride: Pair
    padding: Padding


@record
class AgreedWindowSum:
    """The sums of windows, on shares."""

    name: str
    source: str
    windows: Windows
    kind: Literal["window_sum"] = "window_sum"


@record
class AgreedView:
    """The same values in the same order, seen in another shape."""

    name: str
    source: str
    shape: Image
    kind: Literal["view"] = "view"


@record
class AgreedNonlinear:
    """One garbled layer on a value (C, H, W) of `shape`: bits dropped, saturation, maxima of windows, shares anew.

    `shifts` says by channel how many bits are dropped; the result lies in [0, maximum] after ReLU, or, without, in
    the signed range of `bits`. `modulus_in` and `moduli_out` are those of the shares.
    """

    name: str
    source: str
    shape: Image
    shifts: tuple[int, ...]
    bits: int
    relu: bool
    maximum: int | None
    windows: Windows | None
    modulus_in: int
    moduli_out: tuple[int, ...]
    kind: Literal["nonlinear"] = "nonlinear"


AnyStep: TypeAlias = AgreedLayer | AgreedSum | AgreedWindowSum | AgreedView | AgreedNonlinear
Step: TypeAlias = Annotated[AnyStep, Field(discriminator="kind")]


@record
class Agreement:
    """All that is public: the client learns this and its logits, which are the last step's value."""

    protocol_version: int
    network: str
    network_hash: str
    circuit_privacy: PrivacyText
    security: SecurityLabel
    input_shape: Image
    input_range: Range
    input_step: float
    logit_scale: float
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        if not self.layers:
            raise InvalidPolicy("a network needs at least one linear layer")
        shapes = {INPUT: self.input_shape}
        for step in self.steps:
            if step.name in shapes:
                raise InvalidPolicy(f"step {step.name}: two values have that name")
            for source in step_sources(step):
                if source not in shapes:
                    raise InvalidPolicy(f"step {step.name}: {source} is no earlier value")
            shapes[step.name] = _shape(step, shapes)
            if isinstance(step, AgreedLayer):
                step.policy.check(step.shape, self.security, self.privacy)
                check_modulus(step.policy.t, f"layer {step.name}: t")
            if isinstance(step, AgreedNonlinear):
                for modulus in (step.modulus_in, *step.moduli_out):
                    check_modulus(modulus, f"nonlinear layer {step.name}: modulus")
                    if modulus > MAX_T:
                        raise InvalidPolicy(f"nonlinear layer {step.name}: modulus {modulus} is above {MAX_T}")
        moduli(self)

    @property
    def layers(self) -> tuple[AgreedLayer, ...]:
        """The linear layers, in order."""
        return tuple(step for step in self.steps if isinstance(step, AgreedLayer))

    @property
    def nonlinears(self) -> tuple[AgreedNonlinear, ...]:
        """The garbled layers, in order."""
        return tuple(step for step in self.steps if isinstance(step, AgreedNonlinear))

    @property
    def privacy(self) -> CircuitPrivacy:
        """How responses are protected."""
        return CircuitPrivacy.parse(self.circuit_privacy)

    @property
    def classes(self) -> int:
        """How many logits there are."""
        return prod(self.shapes[self.steps[-1].name])

    @property
    def shapes(self) -> dict[str, Image]:
        """The shape of every value.

        Raises:
            InvalidPolicy: if a step does not fit what it reads.
        """
        found = {INPUT: self.input_shape}
        for step in self.steps:
            found[step.name] = _shape(step, found)
        return found

    @property
    def logit_modulus(self) -> int:
        """What the shares of the logits are taken modulo."""
        return moduli(self)[self.steps[-1].name][0]

    def digest(self) -> bytes:
        """SHA-256 of the canonical JSON: what both parties compare before anything else."""
        return hashlib.sha256(to_json(self, indent=None).encode()).digest()


def step_sources(step: AnyStep) -> tuple[str, ...]:
    """The values that a step reads."""
    return tuple(term.source for term in step.terms) if isinstance(step, AgreedSum) else (step.source,)


def moduli(agreement: Agreement) -> dict[str, tuple[int, ...]]:
    """What the shares of every value are taken modulo: once for each modulus that a reader cannot reduce to its own.

    Raises:
        InvalidPolicy: if accumulators that meet have different moduli, or a reader needs another than a value has.
    """
    found: dict[str, tuple[int, ...]] = {}
    needed: dict[str, set[int]] = {}
    for step in reversed(agreement.steps):
        own = _own_moduli(step, agreement, needed)
        found[step.name] = own
        for source in step_sources(step):
            wanted: tuple[int, ...] = own
            if isinstance(step, AgreedLayer):
                wanted = (step.policy.t,)
            elif isinstance(step, AgreedNonlinear):
                wanted = (step.modulus_in,)
            needed.setdefault(source, set()).update(wanted)
    found[INPUT] = irreducible(needed.get(INPUT, {2}))
    for name, readers in needed.items():
        for modulus in readers:
            if not any(reduces(own, modulus) for own in found[name]):
                raise InvalidPolicy(
                    f"value {name}: its shares are modulo {found[name]}, a reader needs {modulus}; "
                    "layers that meet must have one t"
                )
    return found


def reduces(modulus: int, to: int) -> bool:
    """Whether shares modulo one become shares modulo the other when each party reduces its own."""
    return modulus % to == 0


def irreducible(needed: Collection[int]) -> tuple[int, ...]:
    """The fewest moduli that all others reduce to: the greatest power of two, and every odd one.

    >>> irreducible({16, 64, 97})
    (64, 97)
    """
    return tuple(sorted(each for each in needed if not any(other != each and reduces(other, each) for other in needed)))


def _own_moduli(step: AnyStep, agreement: Agreement, needed: Mapping[str, set[int]]) -> tuple[int, ...]:
    if isinstance(step, AgreedLayer):
        return (step.policy.t,)
    if isinstance(step, AgreedNonlinear):
        return step.moduli_out
    if step.name in needed:
        return irreducible(needed[step.name])
    # The logits: what the layers have that they are made of.
    steps = {each.name: each for each in agreement.steps}
    of_sources = [_own_moduli(steps[name], agreement, needed) for name in step_sources(step) if name in steps]
    return of_sources[0] if of_sources else (2,)


def client_alone(agreement: Agreement) -> frozenset[str]:
    """The values of which the server has no share: the input, and what is made of it before any layer."""
    found = {INPUT}
    for step in agreement.steps:
        if isinstance(step, AgreedView | AgreedWindowSum) and step.source in found:
            found.add(step.name)
    return frozenset(found)


def _shape(step: AnyStep, shapes: Mapping[str, Image]) -> Image:
    """The shape of a step's value; refused if it does not fit what it reads."""
    entering = [shapes[source] for source in step_sources(step)]
    match step:
        case AgreedLayer():
            shape = step.shape
            if entering[0] != (shape.in_channels, shape.height, shape.width):
                raise InvalidPolicy(f"layer {step.name}: {entering[0]} enters, but it takes {shape}")
            return step.output_shape
        case AgreedSum():
            return _added(step, entering)
        case AgreedWindowSum():
            return _pooled(step.name, step.windows, entering[0])
        case AgreedView():
            if prod(step.shape) != prod(entering[0]) or min(step.shape) < 1:
                raise InvalidPolicy(f"view {step.name}: {entering[0]} cannot be seen as {step.shape}")
            return step.shape
        case AgreedNonlinear():
            return _requantised(step, entering[0])


def _added(step: AgreedSum, entering: list[Image]) -> Image:
    if len(set(entering)) != 1 or any(
        len(term.shifts) != entering[0][0] or not 0 <= min(term.shifts) <= max(term.shifts) < MOST_SHIFT
        for term in step.terms
    ):
        raise InvalidPolicy(f"sum {step.name}: its terms {entering} or their shifts do not fit")
    return entering[0]


def _requantised(step: AgreedNonlinear, entering: Image) -> Image:
    if step.shape != entering or len(step.shifts) != step.shape[0]:
        raise InvalidPolicy(f"nonlinear layer {step.name}: {entering} enters, it takes {step.shape}")
    if min(step.shifts) < 0 or not 1 <= step.bits <= MOST_BITS or not step.moduli_out:
        raise InvalidPolicy(f"nonlinear layer {step.name}: shifts, bits {step.bits} or moduli out of range")
    return step.shape if step.windows is None else _pooled(step.name, step.windows, step.shape)


def _pooled(name: str, windows: Windows, shape: Image) -> Image:
    top, left, bottom, right = windows.padding
    bordered = zip(windows.padding, windows.kernel * 2, strict=True)
    if min(*windows.kernel, *windows.stride) < 1 or any(not 0 <= pad < size for pad, size in bordered):
        raise InvalidPolicy(f"{name}: windows {windows} make no sense")
    height, width = shape[1] + top + bottom - windows.kernel[0], shape[2] + left + right - windows.kernel[1]
    if min(height, width) < 0:
        raise InvalidPolicy(f"{name}: windows {windows} are larger than their input {shape}")
    return shape[0], height // windows.stride[0] + 1, width // windows.stride[1] + 1
