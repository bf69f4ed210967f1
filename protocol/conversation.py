"""What both sides of a session share: commands, sizes of messages, and the walk over a network's steps."""

from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias, TypeVar

import numpy as np

from autoprivacy.common.errors import BadInput, ProtocolError
from autoprivacy.common.records import parse, record
from autoprivacy.networks.graph import INPUT
from autoprivacy.protocol import _native, prepared_layer
from autoprivacy.protocol.agreement import AgreedLayer, AgreedNonlinear, Agreement, moduli
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.nonlinear_circuits import width_of
from autoprivacy.protocol.nonlinear_layer import Batch, batches_of
from autoprivacy.protocol.share_steps import Shares
from autoprivacy.protocol.times import LayerTimes
from autoprivacy.protocol.transport import unpack_words
from autoprivacy.protocol.wire import ciphertext_bytes, response_bytes

Schedule: TypeAlias = Literal["online", "preprocessed"]
END, INFER, INFER_REVEALED, PREPARE, SPEND, SPEND_REVEALED = b"\0", b"\1", b"\2", b"\3", b"\4", b"\5"
MOST_PREPARED: Final = 8
"""Inferences that one client may have prepared and not spent."""
MAX_TIMES_BYTES: Final = 1 << 18
KEPT_BYTES: Final = 8
"""What the server keeps of each value of a linear layer's output between offline and online."""
T = TypeVar("T")


@record
class ServerTimes:
    """What a server for testing tells: its times online, and offline where the inference was prepared."""

    layers: tuple[LayerTimes, ...]
    offline: tuple[LayerTimes, ...] = ()


def request_sizes(layer: AgreedLayer) -> list[int]:
    """Bytes of every ciphertext of a request."""
    size = ciphertext_bytes(layer.policy.n, layer.policy.limbs)
    return [size] * layer.layout.inputs


def response_sizes(layer: AgreedLayer) -> list[int]:
    """Bytes of every response."""
    chosen = layer.policy
    return [
        response_bytes(chosen.n, chosen.limbs, sent, chosen.response) for sent in layer.layout.response_sizes.tolist()
    ]


def centred(values: IntArray, t: int) -> IntArray:
    """The representatives in [-t/2, t/2)."""
    return (values + t // 2) % t - t // 2


def parsed(kind: type[T], message: bytes, what: str) -> T:
    """A record that the server sent.

    Raises:
        ProtocolError: if it is none.
    """
    try:
        return parse(kind, message, source=f"the server's {what}")
    except BadInput as error:
        raise ProtocolError(f"{error}; it runs another version") from None


def walk(
    agreement: Agreement,
    shares: Shares,
    linear: Callable[[AgreedLayer], None],
    nonlinear: Callable[[AgreedNonlinear], None],
    constants: Mapping[str, IntArray] | None = None,
) -> None:
    """All steps in order; sums, means and views are computed here, with what the server adds to sums."""
    for step in agreement.steps:
        if isinstance(step, AgreedLayer):
            linear(step)
        elif isinstance(step, AgreedNonlinear):
            nonlinear(step)
        else:
            shares.take(step, None if constants is None else constants.get(step.name))


class Circuits:
    """The circuits of all nonlinear layers by name, in either schedule."""

    def __init__(self, agreement: Agreement) -> None:
        self._steps = {step.name: step for step in agreement.nonlinears}
        self._made: dict[tuple[str, Schedule], tuple[Batch, ...]] = {}

    def of(self, name: str, schedule: Schedule) -> tuple[Batch, ...]:
        """Those of one layer, made when first needed: in `preprocessed` the client masks."""
        key = name, schedule
        if key not in self._made:
            self._made[key] = batches_of(self._steps[name], "client" if schedule == "preprocessed" else "server")
        return self._made[key]


def packed(values: IntArray, modulus: int) -> bytes:
    """Values in [0, modulus), each in the bits of the modulus."""
    return bytes(_native.pack_bits(values.ravel().astype(np.uint64), width_of(modulus)))


def packed_bytes(count: int, modulus: int) -> int:
    """Bytes of so many."""
    return -(-count * width_of(modulus) // 8)


def unpacked(data: bytes, count: int, modulus: int) -> IntArray:
    """What `packed` packed.

    Raises:
        ProtocolError: if the length, the padding or a value is wrong.
    """
    words = unpack_words(data, width_of(modulus), count)
    if (words >= np.uint64(modulus)).any():
        raise ProtocolError(f"the peer sent a share of {int(words.max())}, which is none modulo {modulus}")
    return words.astype(np.int64)


def input_bytes(agreement: Agreement) -> list[tuple[int, int]]:
    """Of the masked input: every modulus, and its bytes."""
    count = int(np.prod(agreement.input_shape))
    return [(modulus, packed_bytes(count, modulus)) for modulus in moduli(agreement)[INPUT]]


def spill_bytes(agreement: Agreement, circuits: Circuits) -> tuple[int, int]:
    """Bytes that one prepared inference takes on disk: the client's and the server's."""
    client, server = 0, sum(KEPT_BYTES * layer.shape.output_values for layer in agreement.layers)
    for step in agreement.nonlinears:
        batches = circuits.of(step.name, "preprocessed")
        client += 16 * sum(batch.transfers for batch in batches) + sum(prepared_layer.table_sizes(batches))
        server += sum(prepared_layer.head_sizes(batches))
    return client, server
