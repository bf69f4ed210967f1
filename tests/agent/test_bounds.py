import numpy as np
import pytest

from autoprivacy.agent.bounds import LEAST, paired_upper

CASES = [(0.002, 0.0), (0.01, 0.01), (0.02, 0.005), (0.1, 0.08), (0.0005, 0.0005)]


@pytest.mark.parametrize(("lost", "gained"), CASES)
@pytest.mark.parametrize("images", [200, 1000])
@pytest.mark.parametrize("draws", [1, 3])
def test_the_bound_holds_in_95_of_100_samples(lost: float, gained: float, images: int, draws: int) -> None:
    rng = np.random.default_rng(round(1e6 * (lost + gained)) + images + draws)
    missed = 0
    samples = 400
    for _ in range(samples):
        kinds = rng.choice([1.0, -1.0, 0.0], (images, draws), p=[lost, gained, 1 - lost - gained])
        missed += paired_upper(kinds.mean(axis=1)) < lost - gained
    # 5 % and three deviations of a count of so many samples.
    assert missed <= 0.05 * samples + 3 * (0.05 * 0.95 * samples) ** 0.5


def test_gains_pay_for_losses() -> None:
    rng = np.random.default_rng(0)
    losses = np.where(rng.random(5000) < 0.01, 1.0, 0.0)
    both = losses - np.where(rng.random(5000) < 0.008, 1.0, 0.0)
    assert paired_upper(both) < paired_upper(losses)


def test_it_is_above_the_mean_and_falls_with_images() -> None:
    rng = np.random.default_rng(1)
    values = rng.choice([1.0, 0.0, -1.0], 8000, p=[0.02, 0.97, 0.01])
    bounds = [paired_upper(values[:count]) for count in (100, 1000, 8000)]
    assert bounds[0] > bounds[1] > bounds[2] > values.mean()
    assert bounds[2] < values.mean() + 0.006


def test_ends() -> None:
    assert paired_upper(np.ones(50)) == 1.0
    assert paired_upper(np.zeros(0)) == 1.0
    assert paired_upper(-np.ones(5000)) == LEAST
