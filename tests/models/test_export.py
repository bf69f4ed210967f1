import json
from dataclasses import replace

import pytest

from autoprivacy.common.errors import UnmodelledOperation
from autoprivacy.common.records import parse, to_json
from autoprivacy.hwprofiles.machine_profile import MachineProfile, WorkDone
from autoprivacy.models.export import COLUMNS, HeirCostModel, cost_table, heir_cost_model
from autoprivacy.models.machine_model import fit
from tests import synthetic

KEYS = {"bootstrap", "rescale", "addCtCt", "addCtPt", "mulCtCt", "mulCtPt", "rotate", "negate"}
LIMB_S = {"add": 1e-5, "multiply_plain": 5e-5, "switch_limb": 2e-4, "rotate": 9e-4, "multiply_relinearise": 4e-3}
"""Seconds a limb at n = 8192."""


@pytest.fixture(scope="module")
def several_limbs() -> MachineProfile:
    """A machine that measured what HEIR asks for, whose times are proportional to limbs."""
    made = synthetic.profile()
    more = [
        synthetic.sample(
            WorkDone(name, n, 40 * limbs, 1, 0, limbs=limbs, limb_bits=40, special=1, kernel="seal"),
            seconds * limbs * n / 8192,
        )
        for name, seconds in LIMB_S.items()
        for n in (4096, 8192)
        for limbs in (1, 2, 3, 4)
    ]
    return replace(made, samples=(*made.samples, *more))


def test_every_setting_is_priced_beside_its_measurement(several_limbs: MachineProfile) -> None:
    table = cost_table(fit(several_limbs), several_limbs)
    assert tuple(table.columns) == COLUMNS
    assert len(table) == len(several_limbs.samples)
    for row, sample in zip(table.itertuples(), several_limbs.samples, strict=True):
        assert (row.operation, row.n, row.limbs) == (sample.operation, sample.n, sample.limbs)
        assert row.measured_quiet_s == sample.quiet_s
        assert row.predicted_quiet_s == pytest.approx(sample.quiet_s, rel=0.05)


def test_heir_gets_all_its_keys_in_microseconds_by_level(several_limbs: MachineProfile) -> None:
    document = json.loads(to_json(heir_cost_model(fit(several_limbs), several_limbs, bootstrap_us=5.0)))
    latencies = document["latencyTable"]
    assert set(latencies) == KEYS
    for index in range(3):
        limbs = index + 2
        for key, operation in (("addCtCt", "add"), ("mulCtPt", "multiply_plain"), ("rotate", "rotate")):
            expected = 1e6 * synthetic.SLOWER * LIMB_S[operation] * limbs
            assert latencies[key][index] == pytest.approx(expected, rel=0.05)
    assert all(len(values) == 3 for values in latencies.values())
    assert latencies["bootstrap"] == [5.0] * 3
    assert max(latencies["rescale"]) > 0
    assert document["autoprivacy"]["not_measured"] == ["bootstrap", "addCtPt", "negate"]
    assert parse(HeirCostModel, json.dumps(document), source="heir").autoprivacy.n == 8192
    assert heir_cost_model(fit(several_limbs), several_limbs, n=4096).autoprivacy.n == 4096


def test_heir_gets_nothing_that_was_not_measured(several_limbs: MachineProfile) -> None:
    plain = synthetic.profile()
    with pytest.raises(UnmodelledOperation, match="several limbs"):
        heir_cost_model(synthetic.model(), plain)
    with pytest.raises(UnmodelledOperation, match="4096, 8192"):
        heir_cost_model(fit(several_limbs), several_limbs, n=2048)
    without = replace(several_limbs, samples=tuple(s for s in several_limbs.samples if s.operation != "switch_limb"))
    with pytest.raises(UnmodelledOperation, match="switch_limb"):
        heir_cost_model(fit(without), without)
