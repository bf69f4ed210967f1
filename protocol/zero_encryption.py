"""Encryptions of zero under the client's public key, at data level.

The public key is itself an encryption of zero modulo q, so that nothing is published under a larger modulus. With a
ternary u and noises e_0, e_1, all fresh, (u pk_0 + e_0, u pk_1 + e_1) is SEAL's `encrypt_zero` [SEAL]; but SEAL runs
it one level higher, with the special prime, and slower.
"""

from typing import Final

from autoprivacy.common.errors import ProtocolError
from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.randomness import BINOMIAL_BITS, secret_bytes
from autoprivacy.protocol.rings import RingWords, ring_of, word_type
from autoprivacy.protocol.wire import Words, check_words

_NOISE_BYTES: Final = -(-BINOMIAL_BITS // 8)


class ZeroEncryptor:
    """Makes encryptions of zero for every t, from a public key of words (2, limbs, n) in coefficient form.

    Raises:
        ProtocolError: if a word is out of range, or the key hides nothing.
    """

    def __init__(self, he_set: HeSet, public: Words) -> None:
        check_words(public, he_set.limbs)
        self._ring = ring_of(he_set.n, he_set.limbs)
        self._public = self._ring.forward(public.astype(word_type(he_set.limbs)))
        self._n = he_set.n

    def words(self) -> RingWords:
        """A fresh encryption of zero (2, limbs, n), in coefficient form."""
        # One byte in 256 is passed over: the spare ones suffice but once in 10^12, and then they are drawn again.
        ternary_bytes = self._n + self._n // 32 + 64
        for _ in range(4):
            try:
                random = secret_bytes(ternary_bytes + 2 * _NOISE_BYTES * self._n)
                return self._ring.encrypt_zero(self._public, random)
            except ValueError:
                continue
        raise ProtocolError("no randomness for an encryption of zero: the operating system's source is broken")
