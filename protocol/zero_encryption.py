"""Encryptions of zero under the client's public key, at data level.

The public key is itself an encryption of zero modulo q, so that nothing is published under a larger modulus. With a
ternary u and noises e_0, e_1, all fresh, (u pk_0 + e_0, u pk_1 + e_1) is SEAL's `encrypt_zero` [SEAL]; but SEAL runs
it one level higher, with the special prime, and slower.
"""

from dataclasses import replace

import numpy as np

from autoprivacy.protocol.he_set import HeSet
from autoprivacy.protocol.randomness import binomial_noise, random_ternary
from autoprivacy.protocol.seal_context import seal_context
from autoprivacy.protocol.wire import Words


class ZeroEncryptor:
    """Makes encryptions of zero for every t, from a public key of words (2, limbs, n) in NTT form.

    Raises:
        ProtocolError: if a word is out of range, or the key hides nothing.
    """

    def __init__(self, he_set: HeSet, public: Words) -> None:
        # Modulo 3, a plaintext is a ternary polynomial: SEAL lifts 2 to -1 in every limb.
        self._context = seal_context(replace(he_set, t=3, special=None))
        self._public = self._context.ciphertext(public, ntt=True)
        self._n = he_set.n
        self._primes = np.array(he_set.limbs, np.uint64)[:, None]

    def words(self) -> Words:
        """A fresh encryption of zero (2, limbs, n), in coefficient form."""
        context, evaluator = self._context, self._context.evaluator
        u = context.encode(random_ternary(self._n), "coefficients")
        evaluator.transform_to_ntt_inplace(u, self._public.parms_id())
        product = evaluator.multiply_plain(self._public, u)
        evaluator.transform_from_ntt_inplace(product)
        noise = binomial_noise(2 * self._n).reshape(2, 1, self._n)
        return add_modulo(context.words(product), noise.astype(np.uint64) + self._primes, self._primes)


def add_modulo(a: Words, b: Words, primes: Words) -> Words:
    """The sum a + b modulo the prime of each limb, for words a below it and b below twice it.

    A word that wraps below zero is large, so the minimum is the reduced one.
    """
    total: Words = a + b
    np.minimum(total, total - primes, out=total)
    np.minimum(total, total - primes, out=total)
    return total
