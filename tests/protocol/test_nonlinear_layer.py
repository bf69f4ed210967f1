"""A layer whose channels drop different numbers of bits: its batches together do what the reference does."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprivacy.common.errors import ProtocolError
from autoprivacy.networks import reference
from autoprivacy.networks.convolution import window_max
from autoprivacy.networks.integer_network import Requantise
from autoprivacy.protocol import garbling, nonlinear_layer
from autoprivacy.protocol.agreement import Windows
from autoprivacy.protocol.nonlinear_layer import batches_of
from autoprivacy.protocol.oblivious_transfer import CorrelatedOtReceiver, CorrelatedOtSender

BITS = 4


@pytest.fixture
def layer(exact):
    """The first nonlinear layer of digits-cnn, (8, 8, 8) values."""
    return exact.agreement.nonlinears[0]


def shifted(layer, shifts):
    return replace(layer, shifts=tuple(shifts), bits=BITS)


def transferred(choices, delta):
    """Zero labels of the sender and active labels of the receiver."""
    sender, receiver = CorrelatedOtSender(delta), CorrelatedOtReceiver()
    receiver.finish_base(sender.answer_base(receiver.offer_base()))
    columns, labels = receiver.extend(choices)
    return sender.extend(columns, len(labels)), labels


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no ReLU": {"relu": False},
    "ReLU6": {"maximum": 11},
    "windows": {"windows": Windows((2, 2), (2, 2), (0, 0, 0, 0))},
    "windows that overlap and reach beyond the border": {"windows": Windows((3, 3), (2, 2), (1, 1, 1, 1))},
    "prime moduli": {"modulus_in": 65537, "moduli_out": (12289,)},
    "several moduli": {"moduli_out": (256, 12289, 40961)},
    "all at once": {
        "modulus_in": 65537,
        "moduli_out": (256, 12289),
        "maximum": 9,
        "windows": Windows((3, 2), (2, 1), (1, 0, 1, 1)),
    },
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shifts", [(3,) * 8, (0, 1, 2, 3, 4, 5, 6, 7), (2, 9, 2, 9, 9, 5, 2, 2)])
def test_shares_of_what_the_reference_computes_come_out(layer, shifts, kind):
    layer = replace(shifted(layer, shifts), **KINDS[kind])
    t, rng = layer.modulus_in, np.random.default_rng(1)
    values = rng.integers(-(t // 2), t // 2, (8, 8, 8))
    values[:, 0] >>= 6
    own = rng.integers(0, t, 512)
    theirs, delta = (values.ravel() - own) % t, garbling.new_delta()
    batches = batches_of(layer)
    results = sum(batch.instances for batch in batches)
    masks = np.stack([rng.integers(0, modulus, results) for modulus in layer.moduli_out])
    zero_labels, labels = transferred(nonlinear_layer.choices(batches, own), delta)
    message = nonlinear_layer.garble(batches, theirs, masks, zero_labels, delta)
    assert len(message) == sum(batch.message_bytes for batch in batches)
    found = nonlinear_layer.evaluate(batches, labels, message)
    rule = Requantise(np.array(shifts), BITS, relu=layer.relu, maximum=layer.maximum)
    expected = reference.requantise(rule, values[None])
    if layer.windows is not None:
        expected = window_max(expected, layer.windows.kernel, layer.windows.stride, layer.windows.padding)
    for modulus, share, mask in zip(layer.moduli_out, found, masks, strict=True):
        assert ((share + mask) % modulus).tolist() == (expected.ravel() % modulus).tolist()
    for wrong in (message[:-1], bytes(message) + b"\0"):
        with pytest.raises(ProtocolError, match="garbled batch"):
            nonlinear_layer.evaluate(batches, labels, wrong)


@settings(max_examples=20, deadline=None)
@given(shifts=st.lists(st.integers(0, 40), min_size=8, max_size=8))
def test_every_value_is_in_one_batch_and_every_batch_has_a_shift_of_its_own(exact, shifts):
    layer = shifted(exact.agreement.nonlinears[0], shifts)
    batches = batches_of(layer)
    places = np.concatenate([batch.targets for batch in batches])
    assert sorted(places.tolist()) == list(range(512))
    assert all(np.array_equal(batch.sources, batch.targets[None]) for batch in batches)
    # A sign is the last bit there is to drop.
    most = layer.modulus_in.bit_length() - 2
    assert [set(batch.targets // 64) for batch in batches] == [
        {channel for channel, shift in enumerate(shifts) if min(shift, most) == each}
        for each in sorted({min(shift, most) for shift in shifts})
    ]
