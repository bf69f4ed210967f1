"""Every decoder of what a peer sends, with a good frame of each: what `fuzz_frames` feeds and tests feed a little."""

import io
import json
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from autoprivacy.common.errors import ProtocolError
from autoprivacy.common.records import parse, to_json
from autoprivacy.protocol import garbling, nonlinear_layer, prepared_layer
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.agreement import AgreedNonlinear, Agreement
from autoprivacy.protocol.conversation import ServerTimes, packed, packed_bytes, unpacked
from autoprivacy.protocol.he_interface import Packing
from autoprivacy.protocol.he_set import HeSet, he_set_for, ntt_prime
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.nonlinear_layer import batches_of
from autoprivacy.protocol.oblivious_transfer import CorrelatedOtReceiver, CorrelatedOtSender
from autoprivacy.protocol.ring_he import RingServer
from autoprivacy.protocol.seal_he import SealClient, SealServer
from autoprivacy.protocol.seal_keys import ClientKeys, ServerKeys
from autoprivacy.protocol.session import LayerTimes
from autoprivacy.protocol.tls import TlsEnd, client_end, new_certificate, server_end
from autoprivacy.protocol.transport import (
    GREETING,
    KEY_BYTES,
    MAX_AGREEMENT_BYTES,
    NONCE_BYTES,
    Channel,
    Kind,
    greet_as_client,
    greet_as_server,
)
from tests import by_hand

KEY: Final = bytes(KEY_BYTES)
TIMEOUT_S: Final = 10.0
STEPS: Final = (1, 4)
LOGITS: Final = 10


@dataclass(frozen=True, slots=True)
class Decoder:
    """`decode` reads the content of one frame (or, where it says `stream`, whole frames). `good` is what it accepts.

    `share` says how many of all frames it gets. `form` is what a mutation may know of the content.
    """

    name: str
    good: bytes
    decode: Callable[[bytes], object]
    share: float
    form: Literal["bytes", "json"] = "bytes"
    accepts_good: bool = True


def decoders() -> list[Decoder]:
    """All of them; with what they need made anew."""
    agreement = agree(by_hand.network(8), by_hand.policy(2048, 53, 8))
    times = ServerTimes((LayerTimes(he_s=0.1, ot_s=0.2, gc_s=0.3),) * 3)
    return [
        *_handshakes(to_json(agreement, indent=None).encode()),
        _of_json("agreement", agreement, 0.003),
        _of_json("times", times, 0.03),
        *_linear(),
        *_transfers(),
        *_circuits(agreement),
    ]


def _frame(kind: Kind, content: bytes) -> bytes:
    return bytes([kind]) + len(content).to_bytes(7, "little") + content


def _from_stream(read: Callable[[Channel], object], stream: bytes, tls: TlsEnd | None = None) -> object:
    """Let `read` read from a peer that sent `stream` and then closed."""
    near, far = socket.socketpair()
    with near, far:
        far.sendall(stream)
        far.shutdown(socket.SHUT_WR)
        return read(Channel(near, TIMEOUT_S, tls))


def _handshakes(agreement: bytes) -> list[Decoder]:
    """Proofs are fresh, so that none is ever accepted here; what is before them is read all the same."""
    answers = _frame(Kind.PROOF, bytes(KEY_BYTES)) + _frame(Kind.AGREEMENT, agreement)
    greeted = _frame(Kind.GREETING, GREETING + bytes(NONCE_BYTES)) + answers
    proof = _frame(Kind.PROOF, bytes(NONCE_BYTES + KEY_BYTES)) + _frame(Kind.PROOF, bytes(KEY_BYTES))
    return [
        Decoder(
            "header of a fixed frame",
            _frame(Kind.COMMAND, b"\1"),
            partial(_from_stream, lambda channel: channel.receive(Kind.COMMAND, 1)),
            0.1,
        ),
        Decoder(
            "header of a free frame",
            _frame(Kind.AGREEMENT, agreement),
            partial(_from_stream, lambda channel: channel.receive_at_most(Kind.AGREEMENT, MAX_AGREEMENT_BYTES)),
            0.1,
        ),
        Decoder(
            "greeting and proof of a server",
            greeted,
            partial(_from_stream, lambda channel: greet_as_client(channel, KEY)),
            0.1,
            accepts_good=False,
        ),
        Decoder(
            "proof of a client",
            proof,
            partial(_from_stream, lambda channel: greet_as_server(channel, KEY, agreement)),
            0.1,
            accepts_good=False,
        ),
        *_tls(),
    ]


def _tls() -> list[Decoder]:
    """The first flight of either side, against the other's."""
    with tempfile.TemporaryDirectory() as folder:
        certificate, private = Path(folder) / "certificate", Path(folder) / "private"
        new_certificate(certificate, private)
        client, server = client_end(certificate), server_end(certificate, private)
    made: dict[bool, bytes] = {}
    for end in (client, server):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        spoken = end.context.wrap_bio(incoming, outgoing, server_side=end.server_side)
        if end.server_side:
            incoming.write(made[False])
        try:
            spoken.do_handshake()
        except ssl.SSLWantReadError:
            made[end.server_side] = outgoing.read()

    def decoder(name: str, end: TlsEnd) -> Decoder:
        read = partial(_from_stream, lambda channel: channel.receive(Kind.COMMAND, 1), tls=end)
        return Decoder(name, made[not end.server_side], read, 0.02, accepts_good=False)

    return [decoder("TLS of a client", server), decoder("TLS of a server", client)]


def _of_json(name: str, value: object, share: float) -> Decoder:
    kind = type(value)
    # As a peer of another version could write it: with spaces.
    text = json.dumps(json.loads(to_json(value))).encode()
    return Decoder(name, text, lambda content: parse(kind, content, source=f"the peer's {name}"), share, "json")


def _linear() -> list[Decoder]:
    """Keys, requests and responses, in both packings."""
    return [
        *_of_packing("coefficients", he_set_for(1024, (26,), 1 << 16), (), 0.07),
        *_of_packing("slots", he_set_for(4096, (36, 36), ntt_prime(4096, 20), special_bits=34), STEPS, 0.004),
    ]


def _of_packing(packing: Packing, he_set: HeSet, steps: tuple[int, ...], share: float) -> list[Decoder]:
    keys = ClientKeys.generate(he_set)
    public = keys.public_message(steps)
    client = SealClient(he_set, keys, packing)
    served = (RingServer if packing == "coefficients" else SealServer)(
        he_set, ServerKeys(he_set, public, steps), packing
    )
    positions = np.arange(0, he_set.n, 3)
    request = client.encrypt(np.arange(he_set.n) % he_set.t)
    response, _ = served.respond(served.from_ntt(_encoded_once(served, request, he_set)), positions)

    def read_keys(content: bytes) -> object:
        return ServerKeys(he_set, content, steps)

    return [
        Decoder(f"public keys, {packing}", public, read_keys, share),
        Decoder(f"ciphertext, {packing}", request, lambda content: served.receive(content, None), share),
        Decoder(f"response, {packing}", response, lambda content: client.decrypt(content, positions), share),
    ]


def _encoded_once(server: RingServer | SealServer, request: bytes, he_set: HeSet) -> Any:  # noqa: ANN401 - either's sum
    one = np.zeros(he_set.n, np.int64)
    one[0] = 1
    return server.weighted_sum([server.to_ntt(server.receive(request, None))], [server.encode_weights(one)])


def _transfers() -> list[Decoder]:
    count = 200
    delta = garbling.new_delta()
    sender, receiver = CorrelatedOtSender(delta), CorrelatedOtReceiver()
    offer = receiver.offer_base()
    answer = sender.answer_base(offer)
    receiver.finish_base(answer)
    columns, _ = receiver.extend(np.ones(count, np.uint8))
    return [
        Decoder("base transfers offered", offer, lambda content: CorrelatedOtSender(delta).answer_base(content), 0.004),
        Decoder("base transfers answered", answer, lambda content: CorrelatedOtReceiver().finish_base(content), 0.002),
        Decoder("transfer columns", bytes(columns), lambda content: sender.extend(content, count), 0.07),
    ]


def _circuits(agreement: Agreement) -> list[Decoder]:
    """The smallest garbled layer of the network, and its logits."""
    step = min(agreement.nonlinears, key=lambda each: each.shape[0] * each.shape[1] * each.shape[2])
    batches = batches_of(step)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 256, (sum(batch.transfers for batch in batches), garbling.LABEL_BYTES), np.uint8)
    share = rng.integers(0, step.modulus_in, prod(step.shape))
    results = sum(batch.instances for batch in batches)
    masks = np.stack([rng.integers(0, modulus, results) for modulus in step.moduli_out])
    garbled = _joined(nonlinear_layer.garble(batches, share, masks, labels, garbling.new_delta()))
    sizes = nonlinear_layer.part_sizes(batches)
    t = agreement.logit_modulus
    return [
        Decoder(
            "garbled layer",
            garbled,
            lambda content: nonlinear_layer.evaluate(batches, labels, _parts(content, sizes)),
            0.005,
        ),
        Decoder("logit share", bytes(packed_bytes(LOGITS, t)), lambda content: unpacked(content, LOGITS, t), 0.08),
        *_prepared_circuits(step, share),
    ]


def _prepared_circuits(step: AgreedNonlinear, share: IntArray) -> list[Decoder]:
    """The same layer garbled ahead: what is kept on disk is one's own, what comes is fuzzed."""
    batches, delta = batches_of(step, "client"), garbling.new_delta()
    labels = np.random.default_rng(1).integers(0, 256, (sum(batch.transfers for batch in batches), 16), np.uint8)
    heads: list[bytes] = []
    tables = _joined(prepared_layer.garble(batches, labels, delta, lambda head: heads.append(bytes(head))))
    made = prepared_layer.Decoder(batches, delta, io.BytesIO(b"".join(heads)).readinto)
    sizes = prepared_layer.label_sizes(batches)

    def evaluate(content: bytes) -> bytes:
        return prepared_layer.evaluate(batches, labels, _parts(content, sizes), io.BytesIO(tables).readinto)

    sent = _joined(made.labels(share))
    modulus, count = step.moduli_out[0] | 1, 64
    masked = packed(np.arange(count) % modulus, modulus)
    return [
        Decoder("labels of a server", sent, evaluate, 0.005),
        Decoder("colours", evaluate(sent), made.decode, 0.05),
        Decoder("masked input", masked, lambda content: unpacked(content, count, modulus), 0.05),
    ]


def _joined(parts: Iterable[memoryview]) -> bytes:
    return b"".join(bytes(part) for part in parts)


def _parts(content: bytes, sizes: Sequence[int]) -> Iterator[memoryview]:
    """What `Channel.receive_parts` gives, which takes just the size that it expects."""
    if len(content) != sum(sizes):
        raise ProtocolError(f"{len(content)} bytes where {sum(sizes)} belong")
    ends = accumulate(sizes)
    return (memoryview(content)[end - size : end] for end, size in zip(ends, sizes, strict=True))
