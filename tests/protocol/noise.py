"""The noise inside real ciphertexts, read with the client's key: what models and guarantees are tested against.

| symbol | meaning |
|---|---|
| phase | c0 + c1 s modulo q, in [0, q) |
| e | phase - q m / t modulo q, centred, for the message m: the noise |
"""

from math import prod

import numpy as np
from numpy.typing import NDArray

from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.seal_context import seal_context
from autoprivacy.protocol.seal_keys import ClientKeys
from autoprivacy.protocol.wire import Words

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
    residues = phase_residues(words, secret, limbs)
    q = prod(limbs)
    phase = sum(
        row.astype(object) * (q // prime * pow(q // prime, -1, prime) % q)
        for row, prime in zip(residues, limbs, strict=True)
    )
    scaled = (phase * t - message.astype(object) * q) % (q * t)  # t e
    return np.array([(value - q * t if 2 * value > q * t else value) / t for value in scaled])
