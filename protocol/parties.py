"""Both parties of one layer, as its policy says, on the kernels that do it fastest."""

from typing import TypeAlias

from autoprivacy.protocol.circuit_privacy import CircuitPrivacy
from autoprivacy.protocol.encoded_weights import Encoder
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.policy import LayerPolicy
from autoprivacy.protocol.ring_he import RingEncoder, RingServer
from autoprivacy.protocol.seal_he import SealClient, SealEncoder, SealServer
from autoprivacy.protocol.seal_keys import ClientKeys, ServerKeys

AnyServer: TypeAlias = RingServer | SealServer


def client_of(policy: LayerPolicy, he_set: HeSet, keys: ClientKeys) -> SealClient:
    """The client's part."""
    return SealClient(he_set, keys, policy.packing, policy.response)


def server_of(
    policy: LayerPolicy, he_set: HeSet, keys: ServerKeys, privacy: CircuitPrivacy, noise_bound: int = 0
) -> AnyServer:
    """The server's part: our own kernels for `coefficients`, SEAL for `slots`, which rotates."""
    kind = RingServer if policy.packing == "coefficients" else SealServer
    return kind(he_set, keys, policy.packing, policy.response, privacy, noise_bound)


def encoder_of(policy: LayerPolicy, he_set: HeSet) -> Encoder[object]:
    """Encodes weights as `server_of` takes them, for all clients alike."""
    return RingEncoder(he_set) if policy.packing == "coefficients" else SealEncoder(he_set, policy.packing)
