import hashlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from autoprivacy.common.errors import BadInput
from autoprivacy.networks import data
from autoprivacy.networks.data import Split, Splits
from autoprivacy.networks.data_formats import BINARY, Dimensions, Images
from autoprivacy.networks.data_sets import DataSet
from autoprivacy.networks.data_sources import cached
from autoprivacy.networks.npz import write_npz


def _all(splits: Splits) -> tuple[Split, ...]:
    return (splits.train, splits.calibrate, splits.search, splits.confirm)


def test_every_digit_is_dealt_to_exactly_one_split(digits: Splits) -> None:
    assert [len(split.y) for split in _all(digits)] == [897, 100, 500, 300]
    dealt = np.concatenate([np.column_stack([s.x.reshape(len(s.x), -1) * 16, s.y]) for s in _all(digits)])
    bunch = load_digits()
    original = np.column_stack([bunch.data, bunch.target])
    assert sorted(map(tuple, dealt.tolist())) == sorted(map(tuple, original.tolist()))


def test_pixels_are_sixteenths_in_channel_first_order(digits: Splits) -> None:
    x = digits.search.x
    assert x.shape == (500, 1, 8, 8)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x * 16, np.clip(np.rint(x * 16), 0, 16))


def test_the_deal_is_the_same_every_time(digits: Splits) -> None:
    again = data.splits("digits-cnn")
    for one, other in zip(_all(digits), _all(again), strict=True):
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(one.y, other.y)


def test_every_split_holds_every_digit(digits: Splits) -> None:
    for split in _all(digits):
        assert set(split.y.tolist()) == set(range(10))


def test_the_digits_are_dealt_as_they_were_when_the_shipped_network_was_trained(digits: Splits) -> None:
    content = hashlib.sha256()
    for split in _all(digits):
        content.update(split.x.tobytes() + split.y.tobytes())
    assert content.hexdigest() == "91f45803faf167326f0869a2fcb7cb5883fe80323a34c30e9e4764e833560ed9"


def test_the_first_of_equal_logits_counts() -> None:
    split = Split("two", np.zeros((2, 1, 1, 1), np.float32), np.array([0, 1]))
    assert split.correct(np.array([[3, 3], [3, 3]])) == 1


def test_an_unknown_data_set_lists_what_there_is() -> None:
    with pytest.raises(BadInput, match="digits-cnn"):
        data.splits("imagenet")


SIZE = Dimensions((1, 2, 2), 50_000, 10_000)


def _numbered(first: int, count: int) -> np.ndarray:
    """Images of four bytes, each of which is its own number."""
    return np.arange(first, first + count, dtype=">u4").view(np.uint8).reshape(count, 1, 2, 2)


def _numbers(split: Split) -> list[int]:
    number: list[int] = split.pixels.reshape(-1, 4).copy().view(">u4").ravel().tolist()
    return number


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    """A set of CIFAR-10's size whose images are numbered, those for testing from 50,000; labels are number mod 7."""
    y = (np.arange(60_000) % 7).astype(np.uint8)
    images = Images(_numbered(0, 50_000), y[:50_000], _numbered(50_000, 10_000), y[50_000:])
    data_set = DataSet("numbered", "Numbers", SIZE, images.sha256(), (BINARY,), "nothing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOPRIVACY_DATA", str(tmp_path_factory.mktemp("cache")))
        write_npz(cached(data_set), images.arrays())
        return data.fetched(data_set)


def test_training_images_are_dealt_and_test_images_confirm(numbered: Splits) -> None:
    dealt = [_numbers(split) for split in _all(numbered)]
    assert [len(numbers) for numbers in dealt] == [44_000, 1000, 5000, 10_000]
    assert sorted(dealt[0] + dealt[1] + dealt[2]) == list(range(50_000))
    assert dealt[3] == list(range(50_000, 60_000))


def test_images_keep_their_labels(numbered: Splits) -> None:
    for split in _all(numbered):
        assert split.y.dtype == np.int64
        np.testing.assert_array_equal(split.y, np.array(_numbers(split)) % 7)


def test_the_order_is_that_of_sha256(numbered: Splits) -> None:
    keys = [hashlib.sha256(f"2026:{number}".encode()).digest() for number in range(50_000)]
    assert [keys[number] for number in _numbers(numbered.train)[:3]] == sorted(keys)[:3]


def test_pixels_are_multiples_of_a_256th_without_loss(numbered: Splits) -> None:
    for split in (numbered.calibrate, numbered.search, numbered.confirm):
        assert split.x.dtype == np.float32
        np.testing.assert_array_equal(split.x.astype(np.float64) * 256, split.pixels)
        assert not split.x.flags.writeable


def test_a_batch_is_what_x_holds_there(numbered: Splits, digits: Splits) -> None:
    chosen = np.array([3, 0, 77, 3])
    for split in (numbered.calibrate, digits.calibrate):
        batch = split.batch(chosen)
        assert batch.dtype == np.float32
        np.testing.assert_array_equal(batch, split.x[chosen])
    assert numbered.train.pixels.dtype == np.uint8


@pytest.mark.parametrize(
    ("network", "command"),
    [
        *((network, "cifar10") for network in ("minionn", "resnet20", "resnet32", "mobilenetv2")),
        ("lenet5", "mnist"),
    ],
)
def test_a_set_that_was_not_fetched_says_how(
    network: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOPRIVACY_DATA", str(tmp_path))
    with pytest.raises(BadInput, match=f"run `autoprivacy data fetch {command}` first"):
        data.splits(network)
