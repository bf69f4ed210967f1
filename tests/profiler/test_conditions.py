from dataclasses import replace

import pytest

from autoprivacy.hwprofiles.header import Conditions
from autoprivacy.profiler.conditions import Watch, judged, read_counters
from tests import synthetic

CALM = synthetic.header().conditions


def test_a_calm_machine_is_quiet() -> None:
    assert judged(CALM, 2, [False] * 10).verdict == "quiet"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (replace(CALM, reference_slowdown_median=1.2), "1.20 times its quiet time"),
        (replace(CALM, slowdown_quantiles=((0.5, 1.1), (0.75, 1.3))), "took 1.30 times its quiet time or more"),
        (replace(CALM, steal_share=0.05), "hypervisor took 5.0%"),
        (replace(CALM, busy_share=0.5), "1.00 cores busy"),
        (replace(CALM, throttled=3), "3 thermal throttling events"),
        (replace(CALM, frequency_low_mhz=1000.0, frequency_high_mhz=3000.0), "1000 to 3000 MHz"),
    ],
)
def test_every_disturbance_is_a_reason(found: Conditions, said: str) -> None:
    verdict = judged(found, 2, [False] * 10)
    assert verdict.verdict == "noisy"
    assert len(verdict.reasons) == 1
    assert said in verdict.reasons[0]


def test_wide_intervals_are_a_reason() -> None:
    assert judged(CALM, 2, [True, False, False, False]).verdict == "quiet"
    assert judged(CALM, 2, [True, True, False, False]).reasons[0].startswith("50%")


def test_counters_only_grow() -> None:
    before = read_counters()
    assert sum(range(10**6))
    after = read_counters()
    assert after.busy_s >= before.busy_s
    assert after.stolen_s >= before.stolen_s


def test_slowdowns_are_those_of_the_reference() -> None:
    references = [1e-4] * 50 + [2e-4] * 50
    found = Watch().conditions(references, synthetic.profile().samples)
    assert found.reference_quiet_s == 1e-4
    assert found.reference_slowdown_p95 == pytest.approx(2.0)
    assert found.slowdown_quantiles[0][1] == pytest.approx(1.0)
    assert 0 <= found.busy_share <= 1
    assert 0 <= found.steal_share <= 1
