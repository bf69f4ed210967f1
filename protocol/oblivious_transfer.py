"""Oblivious transfer of wire labels: base transfers in ed25519's group, then IKNP extension correlated with Delta.

The garbler (server) is the sender: it ends with zero labels z, the evaluator (client) with z ^ choice *
Delta, both used directly as labels of the client's input wires. Semi-honest; the hash of the garbling takes
the correlation (no hash here).

1. **Base transfers** [CO15], 128 of them with the roles swapped: the client offers A = a G; the server
   answers, for bit c_i of Delta, B_i = b_i G + c_i A; the client's two seeds are hashes of a B_i and a (B_i -
   A), the server's is that of b_i A. Hashes cover the index and both points. Points are checked: canonical,
   of prime order, not the neutral element. Delta's lowest bit is public (1), so 127 choices are secret.
2. **Extension** [IKNP03], any number of times: row i of a bit matrix is the stream of seed i. The client
   sends, for every i, its two streams xored with its choice bits; the server adds that to its own stream
   where bit i of Delta is 1. Columns are the labels. The streams go on where the last extension ended, so no
   part of one is used twice.
3. **Ahead of time**, if wanted: transfers of random choices r are prepared, and used later by sending c ^ r for the
   choices c: the client's label stands, and the server adds (c ^ r) * Delta to its own [Beaver95].

Messages are bytes; moving them is the caller's business.

>>> from autoprivacy.protocol.garbling import new_delta
>>> delta = new_delta()
>>> server, client = CorrelatedOtSender(delta), CorrelatedOtReceiver()
>>> client.finish_base(server.answer_base(client.offer_base()))
>>> message, labels = client.extend(np.array([0, 1], dtype=np.uint8))
>>> difference = labels ^ server.extend(message, 2)
>>> difference[0].any(), difference[1].tobytes() == delta
(np.False_, True)
"""

import hashlib
import os

import numpy as np
from nacl import bindings
from nacl.exceptions import CryptoError
from numpy.typing import NDArray

from autoprivacy.common.errors import ProtocolError
from autoprivacy.protocol import _native

Buffer = bytes | bytearray | memoryview
BASE_TRANSFERS = 128
POINT_BYTES = 32
SEED_BYTES = 16
OFFER_BYTES = POINT_BYTES
ANSWER_BYTES = BASE_TRANSFERS * POINT_BYTES


def base_ot_bytes() -> int:
    """Bytes of the base transfers of a session: `OFFER_BYTES` from client to server, `ANSWER_BYTES` back."""
    return OFFER_BYTES + ANSWER_BYTES


def extension_bytes(count: int) -> int:
    """Bytes from client to server that extend by `count` transfers."""
    return BASE_TRANSFERS * ((count + 7) // 8)


def correction_bytes(count: int) -> int:
    """Bytes from client to server that turn `count` prepared transfers into chosen ones."""
    return (count + 7) // 8


def _random_scalar() -> bytes:
    # 64 bytes reduced modulo the group order: uniform to within 2^-259, and zero as rarely.
    return bindings.crypto_core_ed25519_scalar_reduce(os.urandom(64))


def _checked_point(point: bytes, what: str) -> bytes:
    if not bindings.crypto_core_ed25519_is_valid_point(point):
        raise ProtocolError(f"{what}: not a point of prime order; the peer does not follow the protocol")
    return point


def _seed(index: int, offer: bytes, answer: bytes, shared: bytes) -> bytes:
    data = index.to_bytes(4, "little") + offer + answer + shared
    return hashlib.blake2b(data, digest_size=SEED_BYTES, person=b"autoprivacy-ot-1").digest()


def _seed_rows(seeds: list[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(seeds), dtype=np.uint8).reshape(BASE_TRANSFERS, SEED_BYTES)


class CorrelatedOtSender:
    """The garbler's side: knows Delta, gets zero labels.

    Use `answer_base` once, then `extend` as often as needed.
    """

    def __init__(self, delta: bytes) -> None:
        if len(delta) != SEED_BYTES or not delta[0] & 1:
            raise ValueError("delta: give 16 bytes with the lowest bit 1, as garbling.new_delta makes them")
        self._delta = delta
        self._core: _native.OtSender | None = None
        self._ready = np.empty((0, SEED_BYTES), np.uint8)

    def answer_base(self, offer: bytes) -> bytes:
        """Answer the client's offer.

        Raises:
            ProtocolError: if the offer is no valid point, or the base transfers were done before.
        """
        if self._core is not None:
            raise ProtocolError("base transfers: already done; start a new session to repeat them")
        if len(offer) != OFFER_BYTES:
            raise ProtocolError(f"base transfer offer: {len(offer)} bytes received instead of {OFFER_BYTES}")
        _checked_point(offer, "base transfer offer")
        answers, seeds = [], []
        choices = np.unpackbits(np.frombuffer(self._delta, dtype=np.uint8), bitorder="little")
        for i, choice in enumerate(choices.tolist()):
            secret = _random_scalar()
            blinded = bindings.crypto_scalarmult_ed25519_base_noclamp(secret)
            # Both candidates are computed, so that the time does not tell the choice by a group operation.
            candidates = (blinded, bindings.crypto_core_ed25519_add(blinded, offer))
            answers.append(candidates[choice])
            shared = bindings.crypto_scalarmult_ed25519_noclamp(secret, offer)
            seeds.append(_seed(i, offer, answers[-1], shared))
        self._core = _native.OtSender(_seed_rows(seeds), self._delta)
        return b"".join(answers)

    def extend(self, message: Buffer, count: int) -> NDArray[np.uint8]:
        """The zero labels (count, 16) of the client's next `count` choices.

        Raises:
            ProtocolError: if the message has the wrong length, or comes before the base transfers.
        """
        if self._core is None:
            raise ProtocolError("transfer extension: it comes before the base transfers; answer them first")
        if count < 0 or len(message) != extension_bytes(count):
            raise ProtocolError(
                f"transfer extension: {len(message)} bytes received, {count} transfers take {extension_bytes(count)}"
            )
        return self._core.extend(np.frombuffer(message, dtype=np.uint8), count)

    def prepare(self, message: Buffer, count: int) -> None:
        """Take `count` transfers of random choices ahead, as `CorrelatedOtReceiver.prepare` made them.

        Raises:
            ProtocolError: as `extend`.
        """
        self._ready = np.concatenate([self._ready, self.extend(message, count)])

    def correct(self, message: Buffer, count: int) -> NDArray[np.uint8]:
        """The zero labels (count, 16) of the client's next choices, from prepared transfers; each is used once.

        Raises:
            ProtocolError: if the message has the wrong length, or fewer are prepared.
        """
        if count < 0 or len(message) != correction_bytes(count):
            raise ProtocolError(
                f"transfer corrections: {len(message)} bytes received, {count} choices take {correction_bytes(count)}"
            )
        if count > len(self._ready):
            raise ProtocolError(f"{count} prepared transfers asked for, {len(self._ready)} are left; prepare more")
        wrong = np.unpackbits(np.frombuffer(message, np.uint8), count=count, bitorder="little")
        labels, self._ready = self._ready[:count], self._ready[count:]
        return labels ^ wrong[:, None] * np.frombuffer(self._delta, np.uint8)


class CorrelatedOtReceiver:
    """The evaluator's side: chooses bits, gets active labels.

    Use `offer_base` and `finish_base` once, then `extend` as often as needed.
    """

    def __init__(self) -> None:
        self._secret = _random_scalar()
        self._offer = bindings.crypto_scalarmult_ed25519_base_noclamp(self._secret)
        self._core: _native.OtReceiver | None = None
        self._ready_choices = np.empty(0, np.uint8)
        self._ready = np.empty((0, SEED_BYTES), np.uint8)

    def offer_base(self) -> bytes:
        """The first message, to the server."""
        return self._offer

    def finish_base(self, answer: bytes) -> None:
        """Take the server's answer to the offer.

        Raises:
            ProtocolError: if it is not 128 valid points, or the base transfers were done before.
        """
        if self._core is not None:
            raise ProtocolError("base transfers: already done; start a new session to repeat them")
        if len(answer) != ANSWER_BYTES:
            raise ProtocolError(f"base transfer answer: {len(answer)} bytes received instead of {ANSWER_BYTES}")
        seeds: tuple[list[bytes], list[bytes]] = ([], [])
        for i in range(BASE_TRANSFERS):
            point = _checked_point(answer[i * POINT_BYTES : (i + 1) * POINT_BYTES], f"base transfer answer {i}")
            for choice, base in enumerate((point, bindings.crypto_core_ed25519_sub(point, self._offer))):
                try:
                    shared = bindings.crypto_scalarmult_ed25519_noclamp(self._secret, base)
                except CryptoError:  # only the neutral element: the answer is the offer itself
                    raise ProtocolError(f"base transfer answer {i}: repeats the offer; the peer is faulty") from None
                seeds[choice].append(_seed(i, self._offer, point, shared))
        self._core = _native.OtReceiver(_seed_rows(seeds[0]), _seed_rows(seeds[1]))

    def extend(self, choices: NDArray[np.uint8]) -> tuple[memoryview, NDArray[np.uint8]]:
        """Choose (count,) bits of 0 and 1.

        Returns:
            The message to the server, and the active labels (count, 16).

        Raises:
            ProtocolError: before the base transfers.
            ValueError: if choices are not 0 and 1.
        """
        if self._core is None:
            raise ProtocolError("transfer extension: it comes before the base transfers; finish them first")
        if choices.ndim != 1 or choices.dtype != np.uint8 or (choices > 1).any():
            raise ValueError("choices: give a (count,) uint8 array of 0 and 1")
        message, labels = self._core.extend(choices)
        return message.data, labels

    def prepare(self, count: int) -> memoryview:
        """Transfer `count` random choices ahead of time; returns the message to the server.

        Raises:
            ProtocolError: before the base transfers.
        """
        random = np.unpackbits(np.frombuffer(os.urandom((count + 7) // 8), np.uint8), count=count)
        message, labels = self.extend(random)
        self._ready = np.concatenate([self._ready, labels])
        self._ready_choices = np.concatenate([self._ready_choices, random])
        return message

    def choose(self, choices: NDArray[np.uint8]) -> tuple[bytes, NDArray[np.uint8]]:
        """Choose (count,) bits of 0 and 1 with prepared transfers, each used once.

        Returns:
            The message to the server, one bit a choice, and the active labels (count, 16).

        Raises:
            ProtocolError: if fewer are prepared.
            ValueError: if choices are not 0 and 1.
        """
        count = len(choices)
        if choices.ndim != 1 or choices.dtype != np.uint8 or (choices > 1).any():
            raise ValueError("choices: give a (count,) uint8 array of 0 and 1")
        if count > len(self._ready):
            raise ProtocolError(f"{count} prepared transfers asked for, {len(self._ready)} are left; prepare more")
        corrections = np.packbits(choices ^ self._ready_choices[:count], bitorder="little")
        labels, self._ready, self._ready_choices = self._ready[:count], self._ready[count:], self._ready_choices[count:]
        return corrections.tobytes(), labels
