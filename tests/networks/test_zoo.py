from pathlib import Path

import numpy as np
import pytest

from autoprivacy.common.errors import BadInput
from autoprivacy.networks import checkpoint, load, zoo
from autoprivacy.networks.accuracy import measure
from autoprivacy.networks.checkpoint import TrainedNetwork
from autoprivacy.networks.data import Splits
from autoprivacy.networks.graph import Conv2d, infer_shapes


def test_every_shipped_checkpoint_is_of_the_architecture_of_its_name() -> None:
    shipped = sorted(path.stem for path in zoo.CHECKPOINTS.glob("*.json"))
    assert "digits-cnn" in shipped
    for name in shipped:
        assert load(name).network == zoo.architecture(name)


def test_recorded_accuracies_are_reproduced(trained: TrainedNetwork, digits: Splits) -> None:
    assert trained.training is not None
    assert measure(trained, digits, lambda: None) == trained.training.accuracies


def test_the_shipped_network_is_accurate_in_float_and_at_4_bits(trained: TrainedNetwork) -> None:
    assert trained.training is not None
    reached = {(each.split, each.bits, each.end_bits): each.fraction for each in trained.training.accuracies}
    assert reached["confirm", None, None] >= 0.97
    assert reached["search", 8, 8] >= reached["search", None, None] - 0.003
    assert reached["search", 4, 8] >= reached["search", None, None] - 0.01


def test_one_padded_channel_fits_a_ring_of_1024() -> None:
    network = zoo.architecture("digits-cnn")
    shapes = infer_shapes(network)
    for layer in network.linear_layers:
        top, left, bottom, right = layer.padding if isinstance(layer, Conv2d) else (0, 0, 0, 0)
        _, height, width = (*shapes[layer.inputs[0]], 1, 1)[:3]
        assert (height + top + bottom) * (width + left + right) <= 1024


def test_a_users_file_loads_like_a_shipped_one(trained: TrainedNetwork, digits: Splits, tmp_path: Path) -> None:
    checkpoint.save(trained, tmp_path / "mine.json")
    np.testing.assert_array_equal(load(tmp_path / "mine.json").run(digits.search.x), trained.run(digits.search.x))
    assert load(str(tmp_path / "mine.json")).hash == trained.hash


@pytest.mark.parametrize("name", ["lenet", "", "../digits-cnn", "digits-cnn.pt"])
def test_an_unknown_name_lists_what_there_is(name: str) -> None:
    with pytest.raises(BadInput, match="one of: digits-cnn"):
        load(name)


def test_an_unknown_architecture_lists_what_there_is() -> None:
    with pytest.raises(BadInput, match="there are: digits-cnn"):
        zoo.architecture("lenet")
