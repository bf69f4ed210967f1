"""A layer whose channels drop different numbers of bits: its batches together do what the reference does."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprivacy.common.errors import ProtocolError
from autoprivacy.networks import reference
from autoprivacy.networks.convolution import convolve, window_max
from autoprivacy.networks.integer_network import Requantise
from autoprivacy.protocol import garbling, nonlinear_layer, prepared_layer
from autoprivacy.protocol.agreement import Windows
from autoprivacy.protocol.linear_shape import LinearShape
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
    made = nonlinear_layer.garble(batches, theirs, masks, zero_labels, delta)
    parts = [memoryview(bytes(part)) for part in made]
    assert [len(part) for part in parts] == nonlinear_layer.part_sizes(batches)
    assert sum(map(len, parts)) == sum(batch.message_bytes for batch in batches)
    found = nonlinear_layer.evaluate(batches, labels, iter(parts))
    check_shares(layer, values, found, masks)


def check_shares(layer, values, found, masks):
    rule = Requantise(np.array(layer.shifts), BITS, relu=layer.relu, maximum=layer.maximum)
    expected = reference.requantise(rule, values[None])
    if layer.windows is not None:
        expected = window_max(expected, layer.windows.kernel, layer.windows.stride, layer.windows.padding)
    for modulus, share, mask in zip(layer.moduli_out, found, masks, strict=True):
        assert ((share + mask) % modulus).tolist() == (expected.ravel() % modulus).tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shifts", [(3,) * 8, (2, 9, 2, 9, 9, 5, 2, 2)])
def test_a_layer_that_was_garbled_ahead_gives_the_server_the_shares(layer, shifts, kind):
    layer = replace(shifted(layer, shifts), **KINDS[kind])
    t, rng = layer.modulus_in, np.random.default_rng(2)
    values = rng.integers(-(t // 2), t // 2, (8, 8, 8))
    client = rng.integers(0, t, 512)
    server, delta = (values.ravel() - client) % t, garbling.new_delta()
    batches, usual = batches_of(layer, "client"), batches_of(layer)
    assert [batch.kind.and_gates for batch in batches] == [batch.kind.and_gates for batch in usual]
    assert [batch.circuit.and_gates for batch in batches] == [batch.kind.and_gates for batch in batches]
    results = sum(batch.instances for batch in batches)
    masks = np.stack([rng.integers(0, modulus, results) for modulus in layer.moduli_out])
    zero_labels, labels = transferred(nonlinear_layer.choices(batches, client, masks), delta)

    heads = []
    made = prepared_layer.garble(batches, zero_labels, delta, lambda head: heads.append(bytes(head)))
    tables = [bytes(part) for part in made]
    assert [len(part) for part in tables] == prepared_layer.table_sizes(batches)
    assert [len(part) for part in heads] == prepared_layer.head_sizes(batches)

    decoder = prepared_layer.Decoder(batches, delta, reader(heads))
    sent = [memoryview(bytes(part)) for part in decoder.labels(server)]
    assert [len(part) for part in sent] == prepared_layer.label_sizes(batches)
    colours = prepared_layer.evaluate(batches, labels, iter(sent), reader(tables))
    assert len(colours) == prepared_layer.colours_bytes(batches)
    check_shares(layer, values, decoder.decode(colours), masks)
    for wrong in (colours[:-1], colours + b"\0", b"", b"\xff" * (len(colours) + 1)):
        with pytest.raises(ProtocolError, match="colours"):
            decoder.decode(wrong)


def reader(parts):
    left = iter(parts)

    def read(view):
        view[:] = next(left)

    return read


def test_what_is_kept_does_not_depend_on_the_servers_share(layer):
    """The server's labels of one value and of another differ by Delta in just the bits that differ."""
    batches, delta = batches_of(layer, "client"), garbling.new_delta()
    rng = np.random.default_rng(3)
    zero_labels = rng.integers(0, 256, (sum(batch.transfers for batch in batches), 16), np.uint8)
    heads = []
    for _ in prepared_layer.garble(batches, zero_labels, delta, lambda head: heads.append(bytes(head))):
        pass
    one, other = rng.integers(0, layer.modulus_in, (2, 512))
    both = [
        b"".join(bytes(part) for part in prepared_layer.Decoder(batches, delta, reader(heads)).labels(share))
        for share in (one, other)
    ]
    labels = [np.frombuffer(each, np.uint8).reshape(-1, 16) for each in both]
    differ = (labels[0] != labels[1]).any(axis=1)
    assert ((labels[0] ^ labels[1])[differ] == np.frombuffer(delta, np.uint8)).all()
    assert differ.sum() == np.bitwise_count(np.bitwise_xor(one, other)).sum()


@settings(max_examples=40, deadline=None)
@given(
    bits=st.integers(2, 59),
    odd=st.booleans(),
    largest=st.sampled_from([1, 7, 127, 2**20]),
    stride=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
    seed=st.integers(0, 2**32),
)
def test_a_linear_layer_in_the_clear_is_exact_modulo_anything(bits, odd, largest, stride, groups, seed):
    rng, modulus = np.random.default_rng(seed), (1 << bits) - odd
    shape = LinearShape(4, 5, 6, 6, (3, 3), (stride, stride), (1, 1, 1, 1), groups)
    weight = rng.integers(-largest, largest + 1, shape.weight_shape)
    share = rng.integers(0, modulus, (4, 5, 6))
    found = prepared_layer.clear_linear(shape, weight, share, modulus)
    geometry = {"stride": shape.stride, "padding": shape.padding, "groups": groups}
    expected = convolve(weight.astype(object), share[None].astype(object), **geometry)[0] % modulus
    assert found.tolist() == expected.tolist()


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
