from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprivacy.common.errors import BadInput
from autoprivacy.networks import data, zoo
from autoprivacy.networks.checkpoint import TrainedNetwork, TrainingRecord
from autoprivacy.networks.data import Split, Splits
from autoprivacy.networks.schedules import SCHEDULES
from autoprivacy.networks.user_data import splits_for, training_splits, user_splits

COUNT = 230


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    """Images whose first pixel is their number, so that they can be told apart."""
    images = np.random.default_rng(0).random((COUNT, 1, 8, 8), dtype=np.float32)
    images[:, 0, 0, 0] = np.arange(COUNT)
    return images


@pytest.fixture(scope="module")
def y() -> np.ndarray:
    return np.arange(COUNT) % 10


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., Path]:
    def write(**arrays: Any) -> Path:
        np.savez(tmp_path / "mine.npz", **arrays)
        return tmp_path / "mine.npz"

    return write


def numbers(split: Split) -> list[int]:
    return [int(number) for number in split.x[:, 0, 0, 0]]


def sizes(splits: Splits) -> list[int]:
    return [len(split.y) for split in (splits.train, splits.calibrate, splits.search, splits.confirm)]


def test_all_images_judge_a_trained_network(
    trained: TrainedNetwork, stored: Callable[..., Path], x: np.ndarray, y: np.ndarray
) -> None:
    splits = user_splits(stored(x=x, y=y), trained)
    assert sizes(splits) == [0, 23, 103, 104]
    dealt = numbers(splits.calibrate) + numbers(splits.search) + numbers(splits.confirm)
    assert sorted(dealt) == list(range(COUNT))
    for split in (splits.calibrate, splits.search, splits.confirm):
        np.testing.assert_array_equal(split.x, x[numbers(split)])
        np.testing.assert_array_equal(split.y, y[numbers(split)])
    assert splits.labels == "given"


def test_half_of_the_images_train(
    trained: TrainedNetwork, stored: Callable[..., Path], x: np.ndarray, y: np.ndarray
) -> None:
    splits = training_splits(stored(x=x, y=y), trained.network)
    assert sizes(splits) == [115, 23, 46, 46]


def test_what_a_network_was_trained_on_never_judges_it(
    trained: TrainedNetwork, stored: Callable[..., Path], x: np.ndarray, y: np.ndarray
) -> None:
    path = stored(x=x, y=y)
    before = training_splits(path, trained.network)
    record = TrainingRecord("autoprivacy train ...", 0, before.description, SCHEDULES["digits-cnn"], "2.13.0", ())
    own = TrainedNetwork(trained.network, trained.weights, record)
    for later in (user_splits(path, own), user_splits(stored(x=x), own)):
        assert numbers(later.train) == numbers(before.train)
        assert numbers(later.confirm) == numbers(before.confirm)
    assert sizes(user_splits(stored(x=x[::-1].copy()), own))[0] == 0  # other images


def test_without_labels_the_float_network_is_right(
    trained: TrainedNetwork, stored: Callable[..., Path], digits: Splits
) -> None:
    x = np.concatenate([digits.calibrate.x, digits.search.x])
    splits = user_splits(stored(x=x), trained)
    assert splits.labels == "float network's own"
    for split in (splits.calibrate, splits.search, splits.confirm):
        assert split.correct(trained.run(split.x)) == len(split.y)
    given = user_splits(stored(x=x, y=np.concatenate([digits.calibrate.y, digits.search.y])), trained)
    assert any(split.correct(trained.run(split.x)) < len(split.y) for split in (given.search, given.confirm))


def test_training_needs_labels(trained: TrainedNetwork, stored: Callable[..., Path], x: np.ndarray) -> None:
    with pytest.raises(BadInput, match=r"mine\.npz: holds no labels; training needs them"):
        training_splits(stored(x=x), trained.network)


@pytest.mark.parametrize("kind", ["<f2", "<f4", ">f4", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_floats_of_any_width_and_order_are_taken(
    kind: str, order: Any, trained: TrainedNetwork, stored: Callable[..., Path], x: np.ndarray
) -> None:
    splits = user_splits(stored(x=np.asarray(x, dtype=kind, order=order)), trained)
    assert splits.search.x.dtype == np.float32
    np.testing.assert_array_equal(splits.search.x, x[numbers(splits.search)].astype(kind).astype(np.float32))


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int64])
def test_integer_labels_of_any_width_are_taken(
    kind: type, trained: TrainedNetwork, stored: Callable[..., Path], x: np.ndarray, y: np.ndarray
) -> None:
    splits = user_splits(stored(x=x, y=y.astype(kind)), trained)
    assert splits.search.y.dtype == np.int64


def test_images_of_a_channels_last_network_come_in_its_order(
    trained: TrainedNetwork, stored: Callable[..., Path], x: np.ndarray
) -> None:
    last = TrainedNetwork(replace(trained.network, channels_last=True), trained.weights)
    one = user_splits(stored(x=x.transpose(0, 2, 3, 1)), last)
    np.testing.assert_array_equal(one.search.x, user_splits(stored(x=x), trained).search.x)


def test_compressed_and_further_arrays_are_taken(
    trained: TrainedNetwork, tmp_path: Path, x: np.ndarray, y: np.ndarray
) -> None:
    np.savez_compressed(tmp_path / "mine.npz", x=x, y=y, names=np.array(["a", "b"]))
    assert sizes(user_splits(tmp_path / "mine.npz", trained)) == [0, 23, 103, 104]


def test_at_least_200_images_are_needed(trained: TrainedNetwork, stored: Callable[..., Path], x: np.ndarray) -> None:
    assert sizes(user_splits(stored(x=x[:200]), trained)) == [0, 20, 90, 90]
    with pytest.raises(BadInput, match="holds 199 images; at least 200"):
        user_splits(stored(x=x[:199]), trained)


def changed(values: np.ndarray, **entries: float) -> np.ndarray:
    copy = values.astype(np.float64)
    copy.flat[7] = entries["to"]
    return copy


BAD: dict[str, tuple[Callable[[np.ndarray, np.ndarray], dict[str, Any]], str]] = {
    "no x": (lambda x, y: {"images": x, "y": y}, "holds no array 'x'"),
    "bytes": (lambda x, y: {"x": x.astype(np.uint8), "y": y}, "'x' is uint8; it must be floats"),
    "complex": (lambda x, y: {"x": x.astype(complex), "y": y}, "'x' is not stored as plain numbers"),
    "objects": (lambda x, y: {"x": x, "y": np.array([print] * len(y))}, "'y' is not stored as plain numbers"),
    "shape": (
        lambda x, y: {"x": x.reshape(COUNT, 64), "y": y},
        "images of shape (230, 64) given; it takes (N, 1, 8, 8)",
    ),
    "channels": (lambda x, y: {"x": np.repeat(x, 3, 1), "y": y}, "images of shape (230, 3, 8, 8) given"),
    "one number": (lambda _, y: {"x": np.float32(1), "y": y}, "images of shape () given"),
    "NaN": (lambda x, y: {"x": changed(x, to=np.nan), "y": y}, "not finite"),
    "infinity": (lambda x, y: {"x": changed(x, to=-np.inf), "y": y}, "not finite"),
    "beyond float32": (lambda x, y: {"x": changed(x, to=1e39), "y": y}, "not finite"),
    "float labels": (lambda x, y: {"x": x, "y": y.astype(np.float32)}, "'y' is float32 (230,); it must be integers"),
    "one-hot labels": (lambda x, y: {"x": x, "y": np.eye(10, dtype=int)[y]}, "'y' is int64 (230, 10)"),
    "too few labels": (lambda x, y: {"x": x, "y": y[1:]}, "230 images, but 229 labels"),
    "no labels in y": (lambda x, y: {"x": x, "y": y[:0]}, "230 images, but 0 labels"),
    "negative label": (lambda x, y: {"x": x, "y": y - 1}, "labels go from -1 to 8; the network's classes are 0 to 9"),
    "large label": (lambda x, y: {"x": x, "y": y + 1}, "labels go from 1 to 10"),
}


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("what", BAD)
def test_what_does_not_fit_is_refused_with_one_line(
    what: str, trained: TrainedNetwork, tmp_path: Path, x: np.ndarray, y: np.ndarray
) -> None:
    make, words = BAD[what]
    path = tmp_path / "mine.npz"
    np.savez(path, **make(x, y))
    for use in (lambda: user_splits(path, trained), lambda: training_splits(path, trained.network)):
        with pytest.raises(BadInput) as caught:
            use()
        assert words in str(caught.value)
        assert str(caught.value).startswith(f"{path}: ")
        assert str(caught.value).endswith("write it with numpy.savez(FILE, x=images, y=labels)")
        assert "\n" not in str(caught.value)


def test_damaged_files_are_refused(
    trained: TrainedNetwork, stored: Callable[..., Path], x: np.ndarray, y: np.ndarray
) -> None:
    path = stored(x=x, y=y)
    whole = path.read_bytes()
    for content in (b"", b"PK", whole[:100], whole[: len(whole) // 2], whole[:-10], b"\x93NUMPY" + whole):
        path.write_bytes(content)
        try:
            assert sizes(user_splits(path, trained)) == [0, 23, 103, 104]  # a zip file may have something before it
        except BadInput as error:
            assert "not a whole .npz file" in str(error)  # noqa: PT017
    for missing in (path.parent / "none.npz", path.parent):
        with pytest.raises(BadInput, match=r"not a whole \.npz file \((No such file|Is a directory)"):
            user_splits(missing, trained)


def test_a_network_of_the_zoo_has_its_own_images_and_others_need_some(tmp_path: Path) -> None:
    trained = zoo.load("digits-cnn")
    assert splits_for(trained, None).search.y.tolist() == data.splits("digits-cnn").search.y.tolist()
    x = np.random.default_rng(1).random((240, *trained.network.input_shape)).astype(np.float32)
    np.savez(tmp_path / "own.npz", x=x)
    assert len(splits_for(trained, tmp_path / "own.npz").calibrate.y) == 24
    stranger = replace(trained, network=replace(trained.network, name="stranger"))
    with pytest.raises(BadInput, match="--data"):
        splits_for(stranger, None)
