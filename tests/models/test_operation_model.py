from dataclasses import replace

import numpy as np
import pytest

from autoprivacy.common.errors import UnmodelledOperation
from autoprivacy.common.records import parse, to_json
from autoprivacy.hwprofiles.machine_profile import Sample, WorkDone
from autoprivacy.models.candidates import CANDIDATES, fit_analytic
from autoprivacy.models.features import Key, description, features, key_of, names_of
from autoprivacy.models.operation_model import (
    OperationModel,
    find,
    fit_operations,
    held_out,
)
from tests import synthetic
from tests.synthetic import he

NEW_SETTINGS = [
    replace(he("encrypt", 32768, 53), calls=3),
    replace(he("receive", 2048, 53), calls=7),
    replace(he("receive_add_share", 2048, 26), calls=2),
    replace(he("to_ntt", 2048, 53, limbs=2), calls=2),
    replace(he("from_ntt", 2048, 26), calls=2),
    replace(he("weighted_sum", 1024, 26, 33), calls=5),
    replace(he("respond", 2048, 53, 700), calls=4),
    replace(he("decrypt", 4096, 53, 900), calls=4),
    replace(he("encode", 2048, 53), calls=9),
    he("generate_keys", 4096, 26),
    WorkDone("garble", 0, 0, 1, 70 * 300, 300),
    WorkDone("evaluate", 0, 0, 1, 70 * 300, 300),
    WorkDone("ot_send", 0, 0, 2, 9000),
    WorkDone("ot_receive", 0, 0, 1, 9000),
    WorkDone("transfer", 0, 0, 1, 100_000, bytes=100_000),
]


@pytest.fixture(scope="module")
def models() -> dict[Key, OperationModel]:
    return {model.key: model for model in fit_operations(synthetic.profile().samples)}


@pytest.mark.parametrize("work", NEW_SETTINGS, ids=lambda work: work.operation)
def test_settings_that_were_not_measured_are_predicted(models: dict[Key, OperationModel], work: WorkDone) -> None:
    found = find(models, work, "synthetic")
    assert found.quiet_s(work) == pytest.approx(synthetic.seconds(work), rel=1e-5)
    assert found.typical_s(work) == pytest.approx(synthetic.SLOWER * synthetic.seconds(work), rel=1e-5)


def test_new_settings_cover_every_operation() -> None:
    assert {work.operation for work in NEW_SETTINGS} == set(synthetic.SECONDS_PER_FEATURE)


def test_where_the_analytic_model_is_right_it_is_taken(models: dict[Key, OperationModel]) -> None:
    for model in models.values():
        assert model.quiet.kind == "analytic"
        assert np.abs(model.left_out_errors).max(initial=0) < 0.3


def curved(count: int, noise: float = 0.0) -> list[Sample]:
    """Transfers that take the square root of what features say: no sum of features has that shape."""
    rng = np.random.default_rng(5)
    return [
        synthetic.sample(
            WorkDone("ot_send", 0, 0, 1, items, bytes=16 * items), float(items**0.5 * rng.uniform(1, 1 + noise))
        )
        for items in range(100, 100 + 40 * count, 40)
    ]


def test_a_learned_model_ships_only_where_it_beats_the_analytic_one() -> None:
    (model,) = fit_operations(curved(60))
    errors = {each.candidate: each for each in model.candidates}
    assert model.quiet.kind != "analytic"
    chosen, analytic = errors[model.quiet.kind], errors["analytic"]
    assert chosen.left_out is not None
    assert analytic.left_out is not None
    assert chosen.held_out is not None
    assert analytic.held_out is not None
    assert chosen.left_out < analytic.left_out
    assert chosen.held_out < analytic.held_out


def test_what_no_selection_sees_depends_on_the_setting_alone() -> None:
    samples = curved(400)
    share = np.mean([held_out(sample) for sample in samples])
    assert 0.08 < share < 0.25
    slower = [replace(sample, quiet_s=9 * sample.quiet_s, typical_s=9 * sample.typical_s) for sample in samples]
    assert [held_out(sample) for sample in samples] == [held_out(sample) for sample in slower]


def test_held_out_settings_move_no_other_error() -> None:
    samples = curved(60)
    spoilt = [
        replace(sample, quiet_s=3 * sample.quiet_s, typical_s=3 * sample.typical_s) if held_out(sample) else sample
        for sample in samples
    ]
    before, after = fit_operations(samples)[0], fit_operations(spoilt)[0]
    assert [each.left_out for each in before.candidates] == [each.left_out for each in after.candidates]


@pytest.mark.parametrize("name", CANDIDATES)
def test_every_candidate_comes_back_from_its_json(name: str) -> None:
    samples = curved(40, noise=0.3)
    (model,) = fit_operations(samples)
    fitted = CANDIDATES[name](samples, [sample.quiet_s for sample in samples])
    changed = replace(model, quiet=fitted, typical=fitted)
    again = parse(OperationModel, to_json(changed), source="model.json")
    assert again == changed
    assert again.quiet_s(samples[3]) == fitted.seconds(samples[3])


def test_forests_are_those_of_their_libraries() -> None:
    """Our evaluation of trees against scikit-learn's and XGBoost's own."""
    import xgboost
    from sklearn.ensemble import RandomForestRegressor

    samples = curved(60, noise=0.5)
    seconds = [sample.quiet_s for sample in samples]
    base = fit_analytic(samples, seconds)
    rows = np.array([description(sample) for sample in samples])
    left = np.log([s / base.seconds(sample) for s, sample in zip(seconds, samples, strict=True)])
    forest = RandomForestRegressor(30, min_samples_leaf=2, random_state=2020, n_jobs=1).fit(rows, left)
    booster = xgboost.train(
        {"max_depth": 3, "eta": 0.2, "lambda": 1.0, "base_score": 0.0, "seed": 2020, "nthread": 1},
        xgboost.DMatrix(rows, left),
        num_boost_round=30,
    )
    for name, theirs in (("forest", forest.predict(rows)), ("boosted", booster.predict(xgboost.DMatrix(rows)))):
        ours = CANDIDATES[name](samples, seconds)
        found = [np.log(ours.seconds(sample) / base.seconds(sample)) for sample in samples]
        assert found == pytest.approx(theirs, abs=1e-5)


def test_coefficients_are_never_negative() -> None:
    falling = [synthetic.sample(WorkDone("ot_send", 0, 0, 1, x), 10.0 - x) for x in (1, 5, 9)]
    assert min(fit_analytic(falling, [sample.quiet_s for sample in falling]).coefficients) >= 0


def test_works_add_up_to_their_total(models: dict[Key, OperationModel]) -> None:
    first = replace(he("weighted_sum", 2048, 53, 10), calls=2)
    second, both = replace(first, calls=3, items=4), replace(first, calls=5, items=14)
    found = find(models, first, "synthetic")
    assert found.quiet_s(first) + found.quiet_s(second) == pytest.approx(found.quiet_s(both))


def test_words_of_other_sizes_have_features_of_their_own() -> None:
    narrow, wide = features(he("to_ntt", 1024, 26)), features(he("to_ntt", 1024, 53))
    assert not (narrow * wide).any()
    assert len(names_of(key_of(he("to_ntt", 1024, 26)))) == len(narrow)


@pytest.mark.parametrize("limb_bits", [26, 53])
def test_a_word_that_was_not_measured_costs_what_the_other_does(limb_bits: int) -> None:
    """Known answer: 3 ns for each coefficient and limb, measured with one word only."""
    samples = [synthetic.sample(he("to_ntt", n, limb_bits), 3e-9 * n) for n in (1024, 2048, 4096, 8192)]
    (model,) = fit_operations(samples)
    for bits in (26, 53):
        assert model.quiet_s(he("to_ntt", 4096, bits)) == pytest.approx(3e-9 * 4096, rel=1e-6)


def test_intervals_hold_their_share_of_errors() -> None:
    """Of operations with few samples each, which err by a tenth at most."""
    rng = np.random.default_rng(3)
    names = ("ot_receive", "ot_send")
    models = fit_operations(noisy(name, octave, rng) for name in names for octave in range(8))
    for name, model in zip(names, models, strict=True):
        fresh = [noisy(name, octave, rng) for octave in range(8) for _ in range(40)]
        held = [abs(model.quiet_s(sample) / sample.quiet_s - 1) <= model.doubt_of(sample) for sample in fresh]
        assert np.mean(held) > 0.8
        assert max(model.doubt_of(sample) for sample in fresh) < 0.5


def test_intervals_are_wide_where_errors_are_large() -> None:
    """Encodings that take 1 ns a coefficient, give or take nothing in small rings and a fifth in large ones."""
    rng = np.random.default_rng(8)

    def noisy_set(n: int, limbs: int) -> Sample:
        noise = rng.uniform(0.8, 1.2) if n >= 8192 else 1.0
        return synthetic.sample(he("encode", n, 53, limbs=limbs), 1e-9 * n * limbs * float(noise))

    rings = (1024, 2048, 4096, 8192, 16384, 32768)
    (model,) = fit_operations([noisy_set(n, limbs) for n in rings for limbs in range(1, 7)])
    small, large = (model.doubt_of(he("encode", n, 53, limbs=3)) for n in (2048, 16384))
    assert 2 * small < large
    fresh = [noisy_set(n, limbs) for n in rings[1:5] for limbs in range(2, 6) for _ in range(20)]
    held = [abs(model.quiet_s(each) / each.quiet_s - 1) <= model.doubt_of(each) for each in fresh]
    assert np.mean(held) > 0.9


def noisy(operation: str, octave: int, rng: np.random.Generator) -> Sample:
    items = 4096 << octave
    return synthetic.sample(
        WorkDone(operation, 0, 0, 1, items, bytes=16 * items), float(5e-9 * items * rng.uniform(0.9, 1.1))
    )


def test_an_unknown_operation_never_costs_nothing(models: dict[Key, OperationModel]) -> None:
    strange = WorkDone("bootstrap", 1024, 26, 1, 1, 1)
    for refused in (
        lambda: features(strange),
        lambda: fit_operations([synthetic.sample(strange, 1.0)]),
        lambda: find(models, strange, "synthetic"),
    ):
        with pytest.raises(UnmodelledOperation, match="bootstrap"):
            refused()


def test_another_kernel_is_another_operation(models: dict[Key, OperationModel]) -> None:
    with pytest.raises(UnmodelledOperation, match="to_ntt seal"):
        find(models, replace(he("to_ntt", 4096, 36), kernel="seal"), "synthetic")


def test_a_privacy_that_was_not_measured_is_priced_as_another(models: dict[Key, OperationModel]) -> None:
    flooded = replace(he("respond", 4096, 53, 100), privacy="flood")
    assert find(models, flooded, "synthetic").variant == "uniform"
    with pytest.raises(UnmodelledOperation, match="none"):
        find(models, replace(flooded, privacy="none"), "synthetic")


def test_what_was_not_measured_is_named(models: dict[Key, OperationModel]) -> None:
    found = find(models, he("to_ntt", 2048, 53), "synthetic")
    assert found.beyond(he("to_ntt", 2048, 53)) == ()
    assert found.beyond(he("to_ntt", 32768, 53)) == ("log2 n",)
    assert set(found.beyond(he("to_ntt", 32768, 53, limbs=2))) == {"log2 n", "limbs"}


def test_a_tile_of_transfers_begun_is_a_tile_and_every_gate_of_a_circuit_a_step() -> None:
    def of(work: WorkDone) -> dict[str, float]:
        return dict(zip(names_of(key_of(work)), features(work).tolist(), strict=True))

    transfers = [WorkDone("ot_send", 0, 0, calls, items) for calls, items in ((1, 2048), (1, 2049), (2, 4096))]
    assert [of(each)["tiles"] for each in transfers] == [1, 2, 2]
    circuits = [WorkDone("garble", 0, 0, calls, 45 * values, values) for calls, values in ((1, 1), (1, 512), (2, 1024))]
    assert [of(each)["steps"] for each in circuits] == [45, 45, 90]
