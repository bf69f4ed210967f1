from dataclasses import replace

import numpy as np
import pytest

from autoprivacy.common.errors import UnmodelledOperation
from autoprivacy.common.records import parse, to_json
from autoprivacy.hwprofiles.machine_profile import Sample, WorkDone
from autoprivacy.models.operation_model import FEATURES, OperationModel, features, fit_operations, solve
from tests import synthetic

NEW_SETTINGS = [
    WorkDone("encrypt", 32768, 53, 3, 0, 0),
    WorkDone("receive", 2048, 53, 7, 0, 0),
    WorkDone("receive_add_share", 2048, 53, 2, 0, 0),
    WorkDone("to_ntt", 2048, 53, 2, 0, 0),
    WorkDone("from_ntt", 2048, 53, 2, 0, 0),
    WorkDone("weighted_sum", 1024, 26, 5, 33, 0),
    WorkDone("respond", 2048, 53, 4, 700, 0),
    WorkDone("decrypt", 4096, 53, 4, 900, 0),
    WorkDone("garble", 0, 0, 1, 70 * 300, 300),
    WorkDone("evaluate", 0, 0, 1, 70 * 300, 300),
    WorkDone("ot_send", 0, 0, 2, 9000, 0),
    WorkDone("ot_receive", 0, 0, 1, 9000, 0),
    WorkDone("transfer", 0, 0, 1, 100_000, 0),
]


@pytest.fixture(scope="module")
def models() -> dict[str, OperationModel]:
    return fit_operations(synthetic.profile().samples)


def squares(*items: int) -> list[Sample]:
    """An operation whose time grows with the square of its items, which no feature says."""
    return [synthetic.sample(WorkDone("ot_send", 0, 0, 1, count, 0), float(count**2)) for count in items]


@pytest.mark.parametrize("operation", sorted(synthetic.SECONDS_PER_FEATURE))
def test_exact_costs_are_given_back(models: dict[str, OperationModel], operation: str) -> None:
    found = models[operation]
    truth = synthetic.SECONDS_PER_FEATURE[operation]
    for coefficients, slower in ((found.quiet, 1.0), (found.typical, synthetic.SLOWER)):
        for feature, value in zip(FEATURES[operation], coefficients, strict=True):
            assert value == pytest.approx(slower * truth.get(feature, 0.0), rel=1e-4, abs=1e-12), feature


@pytest.mark.parametrize("work", NEW_SETTINGS, ids=lambda work: work.operation)
def test_settings_that_were_not_measured_are_predicted(models: dict[str, OperationModel], work: WorkDone) -> None:
    found = models[work.operation]
    assert found.quiet_s(work) == pytest.approx(synthetic.seconds(work), rel=1e-5)
    assert found.typical_s(work) == pytest.approx(synthetic.SLOWER * synthetic.seconds(work), rel=1e-5)


def test_new_settings_cover_every_operation() -> None:
    assert {work.operation for work in NEW_SETTINGS} == set(synthetic.SECONDS_PER_FEATURE) == set(FEATURES)


@pytest.mark.parametrize("operation", sorted(synthetic.SECONDS_PER_FEATURE))
def test_the_right_model_predicts_what_it_did_not_see(models: dict[str, OperationModel], operation: str) -> None:
    errors = models[operation].relative_errors
    assert errors
    assert np.abs(errors).max() < 1e-5


def test_a_wrong_model_shows_its_residuals() -> None:
    # The best a + b x with a, b >= 0, relatively, through the other two points, worked out by hand: a = 0 each time;
    # b = 30/13, 6/5 and 6/5 for x = 1, 2 and 3 left out.
    found = fit_operations(squares(1, 2, 3))["ot_send"]
    assert found.relative_errors == pytest.approx([30 / 13 - 1, 2.4 / 4 - 1, 3.6 / 9 - 1])


def test_other_degrees_of_a_wrong_model_are_left_out_together() -> None:
    samples = [
        synthetic.sample(WorkDone("weighted_sum", n, 26, 1, items, 0), 1e-12 * n * n * items)
        for n in synthetic.DEGREES
        for items in (1, 8)
    ]
    assert max(fit_operations(samples)["weighted_sum"].relative_errors) > 0.5


def test_coefficients_are_never_negative() -> None:
    falling = [synthetic.sample(WorkDone("ot_send", 0, 0, 1, x, 0), 10.0 - x) for x in (1, 5, 9)]
    assert min(solve(falling, [sample.quiet_s for sample in falling])) >= 0


def test_typical_is_never_below_quiet() -> None:
    samples = [replace(sample, typical_s=sample.quiet_s) for sample in squares(1, 2, 3)]
    found = fit_operations(samples)["ot_send"]
    low = OperationModel("ot_send", found.quiet, tuple(0.5 * c for c in found.quiet), (), (0, 0), (1, 3))
    work = WorkDone("ot_send", 0, 0, 1, 2, 0)
    assert low.typical_s(work) == low.quiet_s(work) > 0


def test_works_add_up_to_their_total(models: dict[str, OperationModel]) -> None:
    found = models["weighted_sum"]
    first, second = WorkDone("weighted_sum", 2048, 53, 2, 10, 0), WorkDone("weighted_sum", 2048, 53, 3, 4, 0)
    both = WorkDone("weighted_sum", 2048, 53, 5, 14, 0)
    assert found.quiet_s(first) + found.quiet_s(second) == pytest.approx(found.quiet_s(both))


def test_an_unknown_operation_never_costs_nothing() -> None:
    with pytest.raises(UnmodelledOperation, match="'bootstrap'"):
        features(WorkDone("bootstrap", 1024, 26, 1, 1, 1))
    with pytest.raises(UnmodelledOperation, match="'bootstrap'"):
        fit_operations([synthetic.sample(WorkDone("bootstrap", 1024, 26, 1, 1, 1), 1.0)])


def test_ranges_are_those_of_the_samples(models: dict[str, OperationModel]) -> None:
    assert models["encrypt"].n_range == (min(synthetic.DEGREES), max(synthetic.DEGREES))
    assert models["ot_send"].items_range == (min(synthetic.TRANSFERS), max(synthetic.TRANSFERS))


def test_a_model_comes_back_from_its_json(models: dict[str, OperationModel]) -> None:
    for found in models.values():
        assert parse(OperationModel, to_json(found), source="model.json") == found
