from dataclasses import replace
from math import comb

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


def tail(images: int, lost: int, share: float) -> float:
    """P(at most `lost` of `images` are lost) where each is with probability `share`."""
    return sum(comb(images, k) * share**k * (1 - share) ** (images - k) for k in range(lost + 1))


@pytest.mark.parametrize("images", [1, 10, 59, 500])
def test_none_lost_still_leaves_doubt(
    monkeypatch: pytest.MonkeyPatch, space: Space, agreement: Agreement, images: int
) -> None:
    found = drop_of(monkeypatch, space, agreement, [True] * images, [[True] * images] * ERROR_DRAWS)
    assert found.upper == pytest.approx(1 - 0.05 ** (1 / images))
    assert (found.accuracy, found.baseline, found.images) == (1.0, 1.0, images)


@pytest.mark.parametrize("lost", [1, 2, 5, 19])
def test_the_bound_is_the_share_at_which_so_few_losses_happen_in_5_percent(
    monkeypatch: pytest.MonkeyPatch, space: Space, agreement: Agreement, lost: int
) -> None:
    after = [False] * lost + [True] * (20 - lost)
    found = drop_of(monkeypatch, space, agreement, [True] * 20, [after] * ERROR_DRAWS)
    assert found.upper > lost / 20
    assert tail(20, lost, found.upper) == pytest.approx(0.05)


def test_all_lost_is_a_drop_of_one(monkeypatch: pytest.MonkeyPatch, space: Space, agreement: Agreement) -> None:
    assert drop_of(monkeypatch, space, agreement, [True] * 5, [[False] * 5] * ERROR_DRAWS).upper == 1.0


def test_an_image_that_any_draw_loses_is_lost(
    monkeypatch: pytest.MonkeyPatch, space: Space, agreement: Agreement
) -> None:
    draws = [[True] * 20 for _ in range(ERROR_DRAWS)]
    for index, draw in enumerate(draws):
        draw[index] = False
    found = drop_of(monkeypatch, space, agreement, [True] * 20, draws)
    assert tail(20, ERROR_DRAWS, found.upper) == pytest.approx(0.05)
    assert found.accuracy == pytest.approx(19 / 20)


def test_images_gained_do_not_pay_for_images_lost(
    monkeypatch: pytest.MonkeyPatch, space: Space, agreement: Agreement
) -> None:
    before = [True] * 10 + [False] * 10
    after = [False] * 2 + [True] * 18
    found = drop_of(monkeypatch, space, agreement, before, [after] * ERROR_DRAWS)
    assert found.accuracy > found.baseline
    assert tail(20, 2, found.upper) == pytest.approx(0.05)


def test_a_network_loses_nothing_against_itself(space: Space, agreement: Agreement) -> None:
    network = space.network(PLAIN)
    found = accuracy_drop(network, agreement, network, space.data.search, 0)
    assert found.accuracy == found.baseline
    assert found.upper == pytest.approx(1 - 0.05 ** (1 / found.images))


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
    assert drops[1].upper > 2 * drops[0].upper
