from dataclasses import replace

import pytest
import seal

from autoprivacy.common.errors import InsecureParameters
from autoprivacy.protocol.he_set import he_set_for
from autoprivacy.protocol.policy import LayerPolicy, Policy
from autoprivacy.protocol.seal_parameters import SealParameters, seal_parameters


def chosen(layer: LayerPolicy, bits: tuple[int, ...], *, n: int, t: int, special: int | None = None) -> LayerPolicy:
    he_set = he_set_for(n, bits, t, special_bits=special)
    return replace(layer, n=n, limbs=he_set.limbs, special=he_set.special, t=t)


def context(exported: SealParameters) -> seal.SEALContext:
    parameters = seal.EncryptionParameters(seal.scheme_type.bfv)
    parameters.set_poly_modulus_degree(exported.poly_modulus_degree)
    parameters.set_coeff_modulus([seal.Modulus(prime) for prime in exported.coeff_modulus])
    parameters.set_plain_modulus(seal.Modulus(exported.plain_modulus))
    level = getattr(seal.sec_level_type, exported.sec_level)
    return seal.SEALContext(parameters, True, level)  # noqa: FBT003 - SEAL's own signature


@pytest.mark.parametrize(
    ("bits", "n", "special"), [((26,), 1024, None), ((36, 36), 4096, None), ((36, 35), 4096, 35), ((53,), 2048, None)]
)
def test_seal_takes_what_is_exported_and_keeps_the_data_limbs(
    policy: Policy, bits: tuple[int, ...], n: int, special: int | None
) -> None:
    dummy = special is None and len(bits) > 1
    name, layer = next(iter(policy.layers.items()))
    changed = chosen(layer, bits, n=n, t=1 << 16, special=special)
    exported = seal_parameters(replace(policy, layers={name: changed})).layers[0]
    made = context(exported)
    assert made.parameters_set()
    data = made.first_context_data().parms().coeff_modulus()
    assert tuple(prime.value() for prime in data) == changed.limbs
    assert (exported.dummy_special, exported.security) == (dummy, "he2024")
    assert exported.sec_level == ("none" if dummy else "tc128")


def test_a_set_below_its_promise_is_refused_and_a_named_one_is_labelled(policy: Policy) -> None:
    name, layer = next(iter(policy.layers.items()))
    weak = he_set_for(1024, (30,), 1 << 16, security="below")
    below = replace(layer, n=1024, limbs=weak.limbs, t=1 << 16)
    with pytest.raises(InsecureParameters):
        seal_parameters(replace(policy, layers={name: below}))
    exported = seal_parameters(replace(policy, layers={name: below}, security="below")).layers[0]
    assert (exported.security, exported.sec_level) == ("below", "none")
    assert context(exported).parameters_set()
