"""Correlated oblivious transfer: label xor zero label is choice times Delta, and faulty peers are refused."""

import os

import numpy as np
import pytest
from nacl import bindings
from numpy.typing import NDArray

from autoprivacy.common.errors import ProtocolError
from autoprivacy.protocol import _native
from autoprivacy.protocol import oblivious_transfer as ot
from autoprivacy.protocol.garbling import new_delta


def connected(delta: bytes) -> tuple[ot.CorrelatedOtSender, ot.CorrelatedOtReceiver]:
    sender, receiver = ot.CorrelatedOtSender(delta), ot.CorrelatedOtReceiver()
    offer = receiver.offer_base()
    answer = sender.answer_base(offer)
    assert len(offer) + len(answer) == ot.base_ot_bytes()
    receiver.finish_base(answer)
    return sender, receiver


def random_bits(seed: int, count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 2, count, dtype=np.uint8)


def test_labels_differ_by_choice_times_delta_over_many_extensions() -> None:
    delta = new_delta()
    sender, receiver = connected(delta)
    seen: set[bytes] = set()
    for seed, count in enumerate([1, 0, 7, 8, 127, 128, 129, 1000, 5000]):
        choices = random_bits(seed, count)
        message, labels = receiver.extend(choices)
        assert len(message) == ot.extension_bytes(count)
        zero = sender.extend(message, count)
        np.testing.assert_array_equal(labels ^ zero, choices[:, None] * np.frombuffer(delta, dtype=np.uint8))
        seen |= {row.tobytes() for row in labels}
    assert len(seen) == 1 + 7 + 8 + 127 + 128 + 129 + 1000 + 5000  # streams are never used twice


def test_labels_and_messages_look_random_whatever_is_chosen() -> None:
    """Each of 128 label bits is set in half of 8192 labels, within 6 standard deviations; so is the message."""
    count = 8192
    sender, receiver = connected(new_delta())
    for choices in (np.zeros(count, dtype=np.uint8), np.ones(count, dtype=np.uint8)):
        message, labels = receiver.extend(choices)
        zero = sender.extend(message, count)
        sent = np.frombuffer(message, dtype=np.uint8).reshape(128, -1)
        for bits in (np.unpackbits(labels, axis=1), np.unpackbits(zero, axis=1), np.unpackbits(sent, axis=1).T):
            assert (abs(bits.sum(axis=0) - count / 2.0) < 6 * (count / 4.0) ** 0.5).all()


def test_base_transfers_depend_on_delta_and_session() -> None:
    receiver = ot.CorrelatedOtReceiver()
    offer = receiver.offer_base()
    points = []
    for delta in (new_delta(), new_delta()):
        answer = ot.CorrelatedOtSender(delta).answer_base(offer)
        points += [answer[i : i + 32] for i in range(0, len(answer), 32)]
    assert len(set(points)) == 256
    assert ot.CorrelatedOtReceiver().offer_base() != offer


def test_a_sender_with_another_delta_gets_other_labels() -> None:
    """The receiver's labels are tied to the Delta of the base transfers, not to one that is claimed later."""
    sender, receiver = connected(new_delta())
    message, labels = receiver.extend(random_bits(1, 256))
    zero = sender.extend(message, 256)
    differences = {row.tobytes() for row in labels ^ zero}
    assert len(differences) == 2
    assert bytes(16) in differences


NEUTRAL = bytes([1]) + bytes(31)
ORDER_TWO = (2**255 - 20).to_bytes(32, "little")
ORDER_FOUR = bytes(32)
NOT_CANONICAL = (2**255 - 18).to_bytes(32, "little")


def mixed_order() -> bytes:
    point = bindings.crypto_scalarmult_ed25519_base_noclamp(bindings.crypto_core_ed25519_scalar_reduce(os.urandom(64)))
    return bindings.crypto_core_ed25519_add(point, ORDER_TWO)


def not_on_the_curve() -> bytes:
    return (2).to_bytes(32, "little")


@pytest.mark.parametrize(
    "point", [NEUTRAL, ORDER_TWO, ORDER_FOUR, NOT_CANONICAL, mixed_order(), not_on_the_curve()], ids=range(6)
)
def test_invalid_points_are_refused(point: bytes) -> None:
    with pytest.raises(ProtocolError, match="prime order"):
        ot.CorrelatedOtSender(new_delta()).answer_base(point)
    receiver = ot.CorrelatedOtReceiver()
    answer = ot.CorrelatedOtSender(new_delta()).answer_base(receiver.offer_base())
    with pytest.raises(ProtocolError, match="answer 127: not a point of prime order"):
        receiver.finish_base(answer[:-32] + point)


def test_messages_of_the_wrong_length_are_refused() -> None:
    sender, receiver = connected(new_delta())
    message, _ = receiver.extend(random_bits(2, 20))
    for wrong in (message[:-1], bytes(message) + b"\0", b""):
        with pytest.raises(ProtocolError, match="20 transfers take 384"):
            sender.extend(wrong, 20)
    with pytest.raises(ProtocolError, match="instead of 32"):
        ot.CorrelatedOtSender(new_delta()).answer_base(bytes(31))
    with pytest.raises(ProtocolError, match="instead of 4096"):
        ot.CorrelatedOtReceiver().finish_base(bytes(4095))


def test_an_answer_that_repeats_the_offer_is_refused() -> None:
    receiver = ot.CorrelatedOtReceiver()
    with pytest.raises(ProtocolError, match="repeats the offer"):
        receiver.finish_base(receiver.offer_base() * 128)


def test_steps_out_of_order_are_refused() -> None:
    with pytest.raises(ProtocolError, match="before the base transfers"):
        ot.CorrelatedOtSender(new_delta()).extend(b"", 0)
    with pytest.raises(ProtocolError, match="before the base transfers"):
        ot.CorrelatedOtReceiver().extend(random_bits(0, 1))
    sender, receiver = connected(new_delta())
    with pytest.raises(ProtocolError, match="already done"):
        sender.answer_base(receiver.offer_base())
    with pytest.raises(ProtocolError, match="already done"):
        receiver.finish_base(bytes(4096))


def test_own_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="lowest bit"):
        ot.CorrelatedOtSender(bytes(16))
    _, receiver = connected(new_delta())
    with pytest.raises(ValueError, match="0 and 1"):
        receiver.extend(np.array([0, 2], dtype=np.uint8))


def test_prepared_transfers_serve_choices_made_later() -> None:
    delta = new_delta()
    sender, receiver = connected(delta)
    for count in (100, 29):
        sender.prepare(receiver.prepare(count), count)
    seen: set[bytes] = set()
    for seed, count in enumerate([1, 0, 13, 64, 51]):
        choices = random_bits(seed, count)
        message, labels = receiver.choose(choices)
        assert len(message) == ot.correction_bytes(count)
        zero = sender.correct(message, count)
        np.testing.assert_array_equal(labels ^ zero, choices[:, None] * np.frombuffer(delta, dtype=np.uint8))
        seen |= {row.tobytes() for row in labels}
    assert len(seen) == 129  # each is used once
    with pytest.raises(ProtocolError, match="1 prepared transfers asked for, 0 are left"):
        receiver.choose(random_bits(0, 1))
    with pytest.raises(ProtocolError, match="1 prepared transfers asked for, 0 are left"):
        sender.correct(b"\0", 1)
    with pytest.raises(ProtocolError, match="1 choices take 1"):
        sender.correct(b"", 1)
    with pytest.raises(ValueError, match="0 and 1"):
        receiver.choose(np.array([2], dtype=np.uint8))


def test_corrections_look_random_whatever_is_chosen() -> None:
    _, receiver = connected(new_delta())
    receiver.prepare(8192)
    message, _ = receiver.choose(np.ones(8192, dtype=np.uint8))
    assert abs(int(np.unpackbits(np.frombuffer(message, np.uint8)).sum()) - 4096) < 6 * 2048**0.5


@pytest.mark.parametrize("count", [1, 127, 1023, 1024, 1025, 3000])
def test_every_path_extends_alike(count: int) -> None:
    rng = np.random.default_rng(count)
    zero, one = rng.integers(0, 256, (2, 128, 16), dtype=np.uint8)
    delta = new_delta()
    choice_of_seed = np.unpackbits(np.frombuffer(delta, np.uint8), bitorder="little")[:, None]
    chosen = np.where(choice_of_seed == 1, one, zero)
    results = []
    for path in _native.aes_paths():
        receiver, sender = _native.OtReceiver(zero, one, path), _native.OtSender(chosen, delta, path)
        for _ in range(2):
            message, labels = receiver.extend(random_bits(1, count))
            results.append((path, message.tobytes(), labels.tobytes(), sender.extend(message, count).tobytes()))
    assert len({result[1:] for result in results}) == 2  # the first and the second extension
