from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from autoprivacy.agent import accuracy
from autoprivacy.agent.accuracy import ERROR_DRAWS, AccuracyDrop, accuracy_drop, classify
from autoprivacy.agent.space import Choice, Space
from autoprivacy.networks.data import Split
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.agreement import Agreement
from tests.conftest import PLAIN

NOISY = (Choice(1024, 26, 6),) * 3


def drop_of(
    monkeypatch: pytest.MonkeyPatch, space: Space, agreement: Agreement, before: list[bool], draws: list[list[bool]]
) -> AccuracyDrop:
    """The drop where these images are right before, and under each draw of errors."""
    answers = iter([before, *draws])

    def by_hand(*_: object) -> NDArray[np.int64]:
        return np.where(np.array(next(answers)), 1, 0)

    monkeypatch.setattr(accuracy, "classify", by_hand)
    images = len(before)
    split = Split("by hand", np.zeros((images, 1, 8, 8), np.float32), np.ones(images, np.int64))
    return accuracy_drop(space.network(PLAIN), agreement, space.baseline, split, 0)


@pytest.mark.parametrize("images", [1, 10, 59, 500])
def test_none_lost_still_leaves_doubt(
    monkeypatch: pytest.MonkeyPatch, space: Space, agreement: Agreement, images: int
) -> None:
    found = drop_of(monkeypatch, space, agreement, [True] * images, [[True] * images] * ERROR_DRAWS)
    # The gambler multiplies its capital by at most 1 + 0.9 m an image, and needs 20.
    assert found.upper >= min(1.0, (20 ** (1 / images) - 1) / 0.9) * (1 - 1e-9)
    assert found.upper < max(0.7, 4 / images)
    assert (found.accuracy, found.baseline, found.images) == (1.0, 1.0, images)


def test_all_lost_is_a_drop_of_one(monkeypatch: pytest.MonkeyPatch, space: Space, agreement: Agreement) -> None:
    assert drop_of(monkeypatch, space, agreement, [True] * 5, [[False] * 5] * ERROR_DRAWS).upper == 1.0


def test_a_loss_in_one_draw_counts_as_its_share(
    monkeypatch: pytest.MonkeyPatch, space: Space, agreement: Agreement
) -> None:
    images = 300
    once = [[True] * images for _ in range(ERROR_DRAWS)]
    once[1][7] = False
    always = [[True] * 7 + [False] + [True] * (images - 8)] * ERROR_DRAWS
    bounds = [drop_of(monkeypatch, space, agreement, [True] * images, draws).upper for draws in (once, always)]
    assert 0 < bounds[0] < bounds[1]


def test_images_gained_pay_for_images_lost(monkeypatch: pytest.MonkeyPatch, space: Space, agreement: Agreement) -> None:
    before = [index % 20 >= 10 for index in range(400)]
    lost = [index % 100 != 10 and right for index, right in enumerate(before)]
    gained = [index % 100 == 60 or right for index, right in enumerate(lost)]
    bounds = [drop_of(monkeypatch, space, agreement, before, [after] * ERROR_DRAWS).upper for after in (lost, gained)]
    assert bounds[1] < bounds[0]


def test_a_network_loses_nothing_against_itself(space: Space, agreement: Agreement) -> None:
    network = space.network(PLAIN)
    found = accuracy_drop(network, agreement, network, space.data.search, 0)
    assert found.accuracy == found.baseline
    assert 0 < found.upper < 4 / found.images


def test_errors_come_from_the_seed(space: Space) -> None:
    network = space.network(NOISY)
    agreement = agree(network, space.policy(NOISY, method="by hand"))
    x = space.data.search.x
    same = [classify(network, agreement, x, 5) for _ in range(2)]
    np.testing.assert_array_equal(same[0], same[1])


def test_more_errors_lose_more(space: Space) -> None:
    network = space.network(NOISY)
    policy = space.policy(NOISY, method="by hand")
    # The noise stays, and t grows towards q: what is left between two plaintexts shrinks.
    layers = {name: replace(layer, t=1 << 22) for name, layer in policy.layers.items()}
    harsh = replace(policy, layers=layers)
    drops = [
        accuracy_drop(network, agree(network, made), space.baseline, space.data.search, 0) for made in (policy, harsh)
    ]
    assert drops[1].upper > drops[0].upper
    assert drops[1].accuracy < drops[0].accuracy
