"""From a quantised network and a policy to what both parties agree on, every promise of the policy checked."""

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.networks.accumulators import accumulator_bounds, least_modulus_bits, signed_bits
from autoprivacy.networks.integer_network import (
    IntegerLinear,
    IntegerSum,
    Operation,
    QuantisedNetwork,
    Requantisation,
    View,
    WindowMax,
    WindowSum,
    meetings,
    sources,
    summed_layers,
    value_shapes,
)
from autoprivacy.protocol.agreement import (
    PROTOCOL_VERSION,
    AgreedLayer,
    AgreedNonlinear,
    AgreedSum,
    AgreedView,
    AgreedWindowSum,
    Agreement,
    AnyStep,
    Term,
    Windows,
    irreducible,
)
from autoprivacy.protocol.error_model import bound_to_flood, layer_settings
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.policy import Policy


def agree(network: QuantisedNetwork, policy: Policy) -> Agreement:
    """Check `policy` against the network quantised to its widths.

    Raises:
        InvalidPolicy: another network, missing or unknown layers, a t that does not hold the accumulators, or layers
            that meet with different t.
        InsecureParameters: an HE set below the policy's security label.
    """
    if policy.network_hash != network.trained_hash:
        raise InvalidPolicy(
            f"the policy was made for network {policy.network} ({policy.network_hash[:12]}), "
            f"this one is {network.trained_hash[:12]}; search again for it"
        )
    names = [layer.name for layer in network.linear_layers]
    if set(names) != set(policy.layers):
        raise InvalidPolicy(f"the policy has layers {sorted(policy.layers)}, the network {sorted(names)}")
    if network.widths != policy.widths():
        raise InvalidPolicy("the policy's layers do not have the order and widths that the network was quantised to")
    for name, bits in least_modulus_bits(network).items():
        t = policy.layers[name].t
        if t < 1 << bits:
            raise InvalidPolicy(f"layer {name}: t = {t} would wrap; its accumulators need t = 2^{bits}")
    for meeting in meetings(network):
        found = {policy.layers[name].t for name in meeting.layers}
        if len(found) > 1:
            raise InvalidPolicy(f"layers {', '.join(meeting.layers)} meet: they must have one t, not {sorted(found)}")
    agreement = Agreement(
        protocol_version=PROTOCOL_VERSION,
        network=policy.network,
        network_hash=policy.network_hash,
        circuit_privacy=policy.circuit_privacy,
        security=policy.security,
        input_shape=network.input_shape,
        input_range=network.input_range,
        input_step=network.input_step,
        logit_scale=network.logit_scale,
        steps=_steps(network, policy),
    )
    for name, setting in layer_settings(agreement).items():
        try:
            agreement.privacy.check(setting.he_set, setting.response, bound_to_flood(setting))
        except InvalidPolicy as error:
            raise InvalidPolicy(f"layer {name}: {error}") from None
    return agreement


def _steps(network: QuantisedNetwork, policy: Policy) -> tuple[AnyStep, ...]:
    shapes, fused, needed = value_shapes(network), _fused(network), _needed(network, policy)
    found: list[AnyStep] = []
    for operation in network.operations:
        match operation:
            case IntegerLinear():
                found.append(
                    AgreedLayer(
                        operation.name, operation.source, linear_shape(operation), policy.layers[operation.name]
                    )
                )
            case IntegerSum():
                terms = tuple(Term(source, tuple(shifts.tolist())) for source, shifts in operation.terms)
                found.append(AgreedSum(operation.name, terms))
            case WindowSum():
                found.append(AgreedWindowSum(operation.name, operation.source, _windows(operation)))
            case View():
                found.append(AgreedView(operation.name, operation.source, operation.shape))
            case Requantisation():
                pool = fused.get(operation.name)
                last = operation if pool is None else pool
                found.append(
                    AgreedNonlinear(
                        name=last.name,
                        source=operation.source,
                        shape=shapes[operation.source],
                        shifts=tuple(operation.rule.shifts.tolist()),
                        bits=operation.rule.bits,
                        relu=operation.rule.relu,
                        maximum=operation.rule.maximum,
                        windows=None if pool is None else _windows(pool),
                        modulus_in=needed[operation.source][0],
                        moduli_out=needed[last.name],
                    )
                )
            case WindowMax():
                pass  # part of the circuit that requantised its source
    return tuple(found)


def _fused(network: QuantisedNetwork) -> dict[str, WindowMax]:
    """By requantisation the maxima that are taken in its circuit.

    Raises:
        InvalidPolicy: if a max pooling is not the only reader of a requantised value.
    """
    readers: dict[str, list[Operation]] = {}
    for operation in network.operations:
        for source in sources(operation):
            readers.setdefault(source, []).append(operation)
    requantised = {operation.name for operation in network.operations if isinstance(operation, Requantisation)}
    found = {}
    for operation in network.operations:
        if isinstance(operation, WindowMax):
            if operation.source not in requantised or len(readers[operation.source]) > 1:
                raise InvalidPolicy(
                    f"{operation.name}: a max pooling must be the only reader of a value that was just requantised"
                )
            found[operation.source] = operation
    return found


def _needed(network: QuantisedNetwork, policy: Policy) -> dict[str, tuple[int, ...]]:
    """The moduli of every value: of accumulators that of their meeting, of activations all that are read."""
    summed, bounds = summed_layers(network), accumulator_bounds(network)
    read: dict[str, set[int]] = {}
    found: dict[str, tuple[int, ...]] = {}
    for operation in reversed(network.operations):
        name = operation.name
        if name in summed:
            own: tuple[int, ...] = (policy.layers[summed[name][0]].t,)
        elif name in bounds:  # activations that enter a circuit again: modulo what just holds them
            lows, highs = bounds[name]
            least = 1 << signed_bits(int(lows.min()), int(highs.max()))
            own = (max(least, *read.get(name, {2})),)
        else:
            own = irreducible(read.get(name, {2}))
        found[name] = own
        for source in sources(operation):
            if isinstance(operation, IntegerLinear):
                read.setdefault(source, set()).add(policy.layers[name].t)
            elif not isinstance(operation, Requantisation):
                read.setdefault(source, set()).update(own)
    return found


def linear_shape(layer: IntegerLinear) -> LinearShape:
    """The public shape of a linear layer."""
    channels, height, width = layer.input_shape
    return LinearShape(
        in_channels=channels,
        height=height,
        width=width,
        out_channels=layer.output_shape[0],
        kernel=(layer.weight.shape[2], layer.weight.shape[3]),
        stride=layer.stride,
        padding=layer.padding,
        groups=layer.groups,
    )


def _windows(pool: WindowSum | WindowMax) -> Windows:
    return Windows(pool.kernel, pool.stride, pool.padding)
