import numpy as np
import pytest
from sklearn.datasets import load_digits

from autoprivacy.common.errors import BadInput
from autoprivacy.networks import data
from autoprivacy.networks.data import Split, Splits


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


def test_the_first_of_equal_logits_counts() -> None:
    split = Split("two", np.zeros((2, 1, 1, 1), np.float32), np.array([0, 1]))
    assert split.correct(np.array([[3, 3], [3, 3]])) == 1


def test_an_unknown_data_set_lists_what_there_is() -> None:
    with pytest.raises(BadInput, match="digits-cnn"):
        data.splits("imagenet")
