from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from autoprivacy.agent import accuracy
from autoprivacy.agent.accuracy import ERROR_DRAWS, AccuracyDrop, accuracy_drop, classify
from autoprivacy.networks.data import Split
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.agreement import Agreement
from tests import by_hand


def drop_of(
    monkeypatch: pytest.MonkeyPatch, agreement: Agreement, before: list[bool], draws: list[list[bool]]
) -> AccuracyDrop:
    """The drop where these images are right before, and under each draw of errors."""
    answers = iter([before, *draws])

    def answer(*_: object) -> NDArray[np.int64]:
        return np.where(np.array(next(answers)), 1, 0)

    monkeypatch.setattr(accuracy, "classify", answer)
    images = len(before)
    split = Split("by hand", np.zeros((images, 1, 8, 8), np.float32), np.ones(images, np.int64))
    return accuracy_drop(by_hand.network(8), agreement, by_hand.network(8, 8), split, 0)


@pytest.mark.parametrize("images", [1, 10, 59, 500])
def test_none_lost_still_leaves_doubt(monkeypatch: pytest.MonkeyPatch, agreement: Agreement, images: int) -> None:
    found = drop_of(monkeypatch, agreement, [True] * images, [[True] * images] * ERROR_DRAWS)
    # The gambler multiplies its capital by at most 1 + 0.9 m an image, and needs 20.
    assert found.upper >= min(1.0, (20 ** (1 / images) - 1) / 0.9) * (1 - 1e-9)
    assert found.upper < max(0.7, 4 / images)
    assert (found.accuracy, found.baseline, found.images) == (1.0, 1.0, images)


def test_all_lost_is_a_drop_of_one(monkeypatch: pytest.MonkeyPatch, agreement: Agreement) -> None:
    assert drop_of(monkeypatch, agreement, [True] * 5, [[False] * 5] * ERROR_DRAWS).upper == 1.0


def test_a_loss_in_one_draw_counts_as_its_share(monkeypatch: pytest.MonkeyPatch, agreement: Agreement) -> None:
    images = 300
    once = [[True] * images for _ in range(ERROR_DRAWS)]
    once[1][7] = False
    always = [[True] * 7 + [False] + [True] * (images - 8)] * ERROR_DRAWS
    bounds = [drop_of(monkeypatch, agreement, [True] * images, draws).upper for draws in (once, always)]
    assert 0 < bounds[0] < bounds[1]


def test_images_gained_pay_for_images_lost(monkeypatch: pytest.MonkeyPatch, agreement: Agreement) -> None:
    before = [index % 20 >= 10 for index in range(400)]
    lost = [index % 100 != 10 and right for index, right in enumerate(before)]
    gained = [index % 100 == 60 or right for index, right in enumerate(lost)]
    bounds = [drop_of(monkeypatch, agreement, before, [after] * ERROR_DRAWS).upper for after in (lost, gained)]
    assert bounds[1] < bounds[0]


def test_a_network_loses_nothing_against_itself(agreement: Agreement) -> None:
    network = by_hand.network(8)
    found = accuracy_drop(network, agreement, network, by_hand.splits().search, 0)
    assert found.accuracy == found.baseline
    assert 0 < found.upper < 4 / found.images


def test_errors_come_from_the_seed() -> None:
    network = by_hand.network(6)
    agreement = agree(network, by_hand.policy(1024, 26, 6))
    x = by_hand.splits().search.x
    same = [classify(network, agreement, x, 5) for _ in range(2)]
    np.testing.assert_array_equal(same[0], same[1])


def test_more_errors_lose_more() -> None:
    network = by_hand.network(6)
    policy = by_hand.policy(1024, 26, 6)
    # The noise stays, and t grows towards q: what is left between two plaintexts shrinks.
    layers = {name: replace(layer, t=1 << 22) for name, layer in policy.layers.items()}
    harsh = replace(policy, layers=layers)
    drops = [
        accuracy_drop(network, agree(network, made), by_hand.network(8, 8), by_hand.splits().search, 0)
        for made in (policy, harsh)
    ]
    assert drops[1].upper > drops[0].upper
    assert drops[1].accuracy < drops[0].accuracy
