"""The noise inside real ciphertexts, read with the client's key: what models and guarantees are tested against.

`noise` takes the message; `layer_noise` reads it off the phase, which works while the noise stays below q / 2t.

| symbol | meaning |
|---|---|
| phase | c0 + c1 s modulo q, in [0, q) |
| e | phase - q m / t modulo q, centred, for the message m: the noise |
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from autoprivacy.protocol import linear_layer, responses
from autoprivacy.protocol.error_noise import Setting, noise_bound
from autoprivacy.protocol.he_interface import Packing
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.randomness import random_below
from autoprivacy.protocol.ring_he import RingServer
from autoprivacy.protocol.seal_context import seal_context
from autoprivacy.protocol.seal_he import SealServer
from autoprivacy.protocol.seal_keys import ClientKeys
from autoprivacy.protocol.slot_packing import SlotLayout
from autoprivacy.protocol.wire import Words, unpack_response
from tests.protocol.interpreters import seal_pair

_SECRET_WORDS = 88  # where a serialised SEAL plaintext, which a secret key is, has its words
_PIECE_BITS = 20


def secret_of(keys: ClientKeys) -> IntArray:
    """The ternary secret (n,)."""
    he_set = keys.he_set
    context = seal_context(he_set)
    words = np.frombuffer(keys.secret, "<u8", offset=_SECRET_WORDS).reshape(-1, he_set.n)[: len(he_set.limbs)]
    both = context.ciphertext(np.stack([words, words]), ntt=True)
    context.evaluator.transform_from_ntt_inplace(both)
    residues = context.words(both)[0, 0].astype(np.int64)
    secret: IntArray = np.where(residues > 1, residues - he_set.limbs[0], residues)
    return secret


def times_secret(residues: NDArray[np.uint64], secret: IntArray, prime: int) -> NDArray[np.uint64]:
    """A polynomial (n,) times the secret, modulo X^n + 1 and a prime; exact, by FFT on 20-bit pieces."""
    n = len(secret)
    spectrum = np.fft.rfft(secret, 2 * n)
    total = np.zeros(n, np.uint64)
    for place in reversed(range(0, prime.bit_length(), _PIECE_BITS)):
        piece = (residues >> np.uint64(place)) & np.uint64((1 << _PIECE_BITS) - 1)
        # Sums stay below 2^34 for n <= 16384: doubles hold them with 19 bits to spare.
        full = np.rint(np.fft.irfft(np.fft.rfft(piece.astype(np.float64), 2 * n) * spectrum, 2 * n)).astype(np.int64)
        folded = ((full[:n] - full[n:]) % prime).astype(np.uint64)
        for _ in range(_PIECE_BITS):
            total = np.minimum(total << np.uint64(1), (total << np.uint64(1)) - np.uint64(prime))
        total = (total + folded) % np.uint64(prime)
    return total


def phase_residues(words: Words, secret: IntArray, limbs: tuple[int, ...]) -> NDArray[np.uint64]:
    """The phase (limbs, n) of words (2, limbs, n) in coefficient form, limb by limb."""
    return np.stack(
        [
            (c0 + times_secret(c1, secret, prime)) % np.uint64(prime)
            for c0, c1, prime in zip(words[0], words[1], limbs, strict=True)
        ]
    )


def noise(words: Words, secret: IntArray, limbs: tuple[int, ...], message: IntArray, t: int) -> NDArray[np.float64]:
    """e (n,) of a ciphertext of words (2, limbs, n) whose plaintext is `message` (n,) modulo t."""
    q = prod(limbs)
    phase = _composed(phase_residues(words, secret, limbs), limbs)
    scaled = (phase * t - message.astype(object) * q) % (q * t)  # t e
    return np.array([(value - q * t if 2 * value > q * t else value) / t for value in scaled])


def _composed(residues: NDArray[np.uint64], limbs: tuple[int, ...]) -> NDArray[np.object_]:
    """Integers with these residues (limbs, n), by the Chinese remainder theorem, not reduced."""
    q = prod(limbs)
    terms = [
        row.astype(object) * (q // prime * pow(q // prime, -1, prime) % q)
        for row, prime in zip(residues, limbs, strict=True)
    ]
    return np.asarray(np.sum(terms, axis=0, dtype=object))


def residual(residues: NDArray[np.uint64], limbs: tuple[int, ...], t: int) -> NDArray[np.float64]:
    """How far phases of residues (limbs, ...) are from the nearest multiple of q / t."""
    if len(limbs) == 1:
        nearest = scaled_round(residues[0], t, limbs[0]).astype(np.uint64)
        # Words wrap; their difference, below q in size, does not notice.
        rest = (residues[0] * np.uint64(t) - nearest * np.uint64(limbs[0])).astype(np.int64)
        return np.asarray(rest / t, np.float64)
    q = prod(limbs)
    scaled = _composed(residues, limbs) * t % q
    return np.array([(value - q if 2 * value > q else value) / t for value in scaled])


@contextmanager
def masks() -> Iterator[list[NDArray[np.uint64]]]:
    """The uniform masks that responses draw meanwhile."""
    drawn: list[NDArray[np.uint64]] = []

    def draw(bound: int, count: int) -> NDArray[np.uint64]:
        drawn.append(random_below(bound, count))
        return drawn[-1]

    with patch.object(responses, "random_below", draw):
        yield drawn


def layer_noise(
    setting: Setting, weight: IntArray, rng: np.random.Generator, *, key_sets: int, runs: int, own_kernels: bool = False
) -> Iterator[list[NDArray[np.float64]]]:
    """Per run of a layer on uniform shares, e of every response: at what is sent, or with slots at all coefficients."""
    he_set, layout, shape = setting.he_set, setting.layout, setting.layout.shape
    limbs = he_set.limbs[: setting.response.limbs]
    packing: Packing = "slots" if isinstance(layout, SlotLayout) else "coefficients"
    steps = layout.steps if isinstance(layout, SlotLayout) else ()
    tensor = (shape.in_channels, shape.height, shape.width)
    encoded = None
    for _ in range(key_sets):
        bound = noise_bound(setting)
        client, server, keys = seal_pair(
            he_set,
            packing,
            setting.response,
            setting.privacy,
            noise_bound=bound,
            steps=steps,
            server_kind=RingServer if own_kernels else SealServer,
        )
        secret = secret_of(keys)
        encoded = encoded or linear_layer.encode_layer(server, layout, weight)
        for _ in range(runs):
            requests = linear_layer.request(client, layout, rng.integers(0, he_set.t, tensor))
            share = rng.integers(0, he_set.t, tensor) if setting.shared else None
            with masks() as drawn:
                sent, _ = linear_layer.answer(server, layout, encoded, requests, share)
            found = []
            for response, (positions, _), mask in zip(sent, layout.outputs, drawn, strict=True):
                where = np.arange(he_set.n) if packing == "slots" else positions
                words = unpack_response(response, where, len(where), he_set, setting.response)
                phase = phase_residues(words, secret, limbs)[:, where]
                if setting.privacy.kind == "uniform":
                    phase = (phase + np.uint64(limbs[0]) - mask) % np.uint64(limbs[0])
                found.append(residual(phase, limbs, he_set.t))
            yield found


def scaled_round(values: Words, t: int, q: int) -> IntArray:
    """round(t v / q), exactly, for v in [0, q), t and q below 2^60: long multiplication and division, digit by digit.

    >>> scaled_round(np.array([0, 67104768], np.uint64), 16, 67104769)
    array([ 0, 16])
    """
    divisor, width = np.uint64(q), 63 - q.bit_length()
    quotient = np.zeros(len(values), np.uint64)
    rest = np.zeros(len(values), np.uint64)
    for place in reversed(range(0, t.bit_length(), width)):
        digit = np.uint64((t >> place) & ((1 << width) - 1))
        # rest < q and digit < 2^width, so this is below 2 q 2^width <= 2^64.
        rest = (rest << np.uint64(width)) + values * digit
        carried = rest // divisor
        rest -= carried * divisor
        quotient = (quotient << np.uint64(width)) + carried
    return (quotient + (np.uint64(2) * rest >= divisor)).astype(np.int64)
