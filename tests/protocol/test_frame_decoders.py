"""Every decoder, on a few of the frames that `benchmarks.fuzz_frames` feeds by the million, and on any bytes at all."""

import signal
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprivacy.common.errors import AutoPrivacyError
from benchmarks import fuzz_frames
from benchmarks.frame_decoders import decoders
from benchmarks.fuzz_frames import BYTES, JSON, Outcome, Stuck, bounded, mutate

NAMES = (
    *("header of a fixed frame", "header of a free frame", "greeting and proof of a server", "proof of a client"),
    *("TLS of a client", "TLS of a server", "agreement", "times"),
    *(
        f"{frame}, {packing}"
        for packing in ("coefficients", "slots")
        for frame in ("public keys", "ciphertext", "response")
    ),
    *("base transfers offered", "base transfers answered", "transfer columns", "garbled layer", "logit share"),
    *("labels of a server", "colours", "masked input"),
)
SLOW = {
    "labels of a server",
    "agreement",
    "base transfers answered",
    "public keys, slots",
    "garbled layer",
    "base transfers offered",
}


@pytest.fixture(scope="module")
def made():
    return {each.name: each for each in decoders()}


def test_all_decoders_are_named(made):
    assert tuple(made) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_good_frame_is_accepted(made, name):
    decoder = made[name]
    if decoder.accepts_good:
        decoder.decode(decoder.good)
    else:
        with pytest.raises(AutoPrivacyError):
            decoder.decode(decoder.good)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_wrong_is_one_error_of_ours(made, name):
    decoder = made[name]

    @settings(max_examples=10 if name in SLOW else 60, deadline=None)
    @given(
        st.one_of(
            st.binary(max_size=3000),
            st.integers(0, 2**32).map(lambda seed: mutate(decoder, np.random.default_rng(seed))),
        )
    )
    def decode(content):
        said = "accepted"
        try:
            decoder.decode(content)
        except AutoPrivacyError as error:
            said = str(error)
        assert said
        assert "\n" not in said

    decode()


@pytest.mark.parametrize("mutation", {*BYTES, *JSON}, ids=lambda each: each.__name__)
def test_the_same_seed_gives_the_same_frame(mutation):
    good = b'{"a": [1, 2, {"b": 3.5}], "c": "d"}'
    first, second = (mutation(good, np.random.default_rng(3)) for _ in range(2))
    assert first == second


def test_other_errors_are_counted_and_kept():
    outcome = Outcome("any")

    def decode(content):
        if content == b"bad":
            raise ValueError(content)
        if content == b"ours":
            raise AutoPrivacyError(content)

    for content in (b"bad", b"ours", b"good", b"good"):
        outcome.feed(decode, content)
    assert (outcome.frames, outcome.accepted, outcome.refused, outcome.other_errors) == (4, 2, 1, 1)
    assert outcome.failures == [{"error": "ValueError: b'bad'", "frame": b"bad".hex()}]


def test_a_decoder_that_hangs_is_stopped(monkeypatch):
    monkeypatch.setattr(fuzz_frames, "STUCK_S", 0.05)
    outcome = Outcome("slow")
    with bounded():
        outcome.feed(lambda _: time.sleep(30), b"")
    assert outcome.other_errors == 1
    assert Stuck.__name__ in outcome.failures[0]["error"]
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
