"""A layer whose channels drop different numbers of bits: its batches together do what the reference does."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprivacy.common.errors import InvalidPolicy, ProtocolError
from autoprivacy.networks import reference
from autoprivacy.networks.integer_network import Requantise
from autoprivacy.protocol import garbling, nonlinear_layer
from autoprivacy.protocol.oblivious_transfer import CorrelatedOtReceiver, CorrelatedOtSender
from autoprivacy.protocol.plan import batches_of

BITS = 4


@pytest.fixture
def layer(exact):
    """The first layer of digits-cnn, (8, 8, 8) values."""
    return exact.agreement.layers[0]


def shifted(layer, shifts):
    return replace(layer, nonlinear=replace(layer.nonlinear, shifts=tuple(shifts), bits=BITS))


def transferred(choices, delta):
    """Zero labels of the sender and active labels of the receiver."""
    sender, receiver = CorrelatedOtSender(delta), CorrelatedOtReceiver()
    receiver.finish_base(sender.answer_base(receiver.offer_base()))
    columns, labels = receiver.extend(choices)
    return sender.extend(columns, len(labels)), labels


@pytest.mark.parametrize("shifts", [(3,) * 8, (0, 1, 2, 3, 4, 5, 6, 7), (2, 9, 2, 9, 9, 5, 2, 2)])
def test_shares_of_the_requantised_values_come_out(layer, shifts):
    layer = shifted(layer, shifts)
    t, t_out, rng = layer.policy.t, layer.nonlinear.t_out, np.random.default_rng(1)
    values = rng.integers(-(t // 2), t // 2, (8, 8, 8))
    values[:, 0] >>= 6
    own, mask = rng.integers(0, t, 512), rng.integers(0, t_out, 512)
    theirs, delta = (values.ravel() - own) % t, garbling.new_delta()
    batches = batches_of(layer)
    zero_labels, labels = transferred(nonlinear_layer.choices(batches, own), delta)
    message = nonlinear_layer.garble(batches, theirs, mask, zero_labels, delta)
    assert len(message) == sum(batch.message_bytes for batch in batches)
    out = (nonlinear_layer.evaluate(batches, labels, message) + mask) % t_out
    expected = reference.requantise(Requantise(np.array(shifts), BITS, relu=True), values[None])
    assert out.tolist() == expected.ravel().tolist()
    for wrong in (message[:-1], bytes(message) + b"\0"):
        with pytest.raises(ProtocolError, match="garbled batch"):
            nonlinear_layer.evaluate(batches, labels, wrong)


@settings(max_examples=20, deadline=None)
@given(shifts=st.lists(st.integers(0, 40), min_size=8, max_size=8))
def test_every_value_is_in_one_batch_and_every_batch_has_a_shift_of_its_own(exact, shifts):
    layer = shifted(exact.agreement.layers[0], shifts)
    batches = batches_of(layer)
    places = np.concatenate([batch.places for batch in batches])
    assert sorted(places.tolist()) == list(range(512))
    # A sign is the last bit there is to drop.
    most = layer.policy.t.bit_length() - 2
    assert [set(batch.places // 64) for batch in batches] == [
        {channel for channel, shift in enumerate(shifts) if min(shift, most) == each}
        for each in sorted({min(shift, most) for shift in shifts})
    ]


def test_a_layer_that_is_opened_has_no_batches(exact):
    assert batches_of(exact.agreement.layers[-1]) == ()


@pytest.mark.parametrize("shifts", [(), (1,) * 7, (1,) * 9])
def test_every_channel_has_a_shift(exact, shifts):
    first, *rest = exact.agreement.layers
    with pytest.raises(InvalidPolicy, match=rf"conv1: {len(shifts)} shifts for 8 channels"):
        replace(exact.agreement, layers=(shifted(first, shifts), *rest))


def test_a_negative_shift_is_refused(layer):
    with pytest.raises(InvalidPolicy, match="shift = -1"):
        batches_of(shifted(layer, (-1,) + (1,) * 7))
