from dataclasses import replace

import numpy as np
import pytest

from autoprivacy.common.errors import ProfileMismatch
from autoprivacy.hwprofiles.machine_profile import MachineProfile
from autoprivacy.hwprofiles.samples import Sample
from autoprivacy.profiler.comparison import compare, spread
from tests import synthetic


def slower(profile: MachineProfile, factors: list[float]) -> MachineProfile:
    def changed(sample: Sample, factor: float) -> Sample:
        names = [name for name in Sample.__dataclass_fields__ if name.endswith("_s")]
        return replace(sample, **{name: factor * getattr(sample, name) for name in names})

    samples = tuple(changed(sample, factor) for sample, factor in zip(profile.samples, factors, strict=True))
    return replace(profile, samples=samples)


def test_a_profile_does_not_differ_from_itself() -> None:
    profile = synthetic.profile()
    found = compare(profile, profile)
    assert (found.quiet.largest_pct, found.typical.largest_pct, found.seen.largest_pct) == (0, 0, 0)
    assert not any(each.distinct for each in found.differences)
    assert len(found.differences) == len(profile.samples)


def test_ratios_are_the_second_over_the_first() -> None:
    profile = synthetic.profile()
    factors = np.linspace(1.0, 3.0, len(profile.samples)).tolist()
    found = compare(profile, slower(profile, factors))
    for each, factor in zip(found.differences, factors, strict=True):
        for kind in ("quiet", "typical", "seen"):
            assert each.ratio(kind) == pytest.approx(factor)
        # Intervals are 1 % to each side.
        assert each.distinct == (0.99 * factor > 1.01)
    assert found.quiet.largest_pct == pytest.approx(100.0)


def test_differences_are_the_same_from_both_sides() -> None:
    profile = synthetic.profile()
    factors = np.random.default_rng(0).uniform(0.5, 2.0, len(profile.samples)).tolist()
    other = slower(profile, factors)
    there, back = compare(profile, other), compare(other, profile)
    assert there.quiet.median_pct == pytest.approx(back.quiet.median_pct)
    assert there.quiet.p95_pct == pytest.approx(back.quiet.p95_pct)


def test_the_spread_by_hand() -> None:
    # |ratio - 1| over the mean: 0, 0.2 / 1.1, 0.5 / 0.75.
    found = spread([1.0, 1.2, 0.5])
    assert found.median_pct == pytest.approx(100 * 0.2 / 1.1)
    assert found.largest_pct == pytest.approx(100 * 0.5 / 0.75)


def test_only_shared_settings_are_compared() -> None:
    profile = synthetic.profile()
    less = replace(profile, samples=profile.samples[3:])
    found = compare(profile, less)
    assert (found.only_first, found.only_second) == (3, 0)
    assert len(found.differences) == len(profile.samples) - 3
    core = [(sample.work, sample.code_path) for sample in profile.samples[:5]]
    assert len(compare(profile, profile, core=core).differences) == 5


def test_profiles_without_a_common_setting_are_refused() -> None:
    profile = synthetic.profile()
    with pytest.raises(ProfileMismatch, match="no setting in common"):
        compare(replace(profile, samples=profile.samples[:3]), replace(profile, samples=profile.samples[3:]))
