import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprivacy.common.errors import BadInput
from autoprivacy.models.comparison import compare_table

MATRICES = st.integers(1, 4).flatmap(
    lambda columns: st.lists(
        st.lists(st.floats(1e-6, 1e3), min_size=columns, max_size=columns).map(tuple), min_size=1, max_size=5
    ).map(tuple)
)


def names(what: str, count: int) -> tuple[str, ...]:
    return tuple(f"{what}{index}" for index in range(count))


@given(MATRICES)
def test_the_best_is_least_and_regret_is_what_is_lost(matrix: tuple[tuple[float, ...], ...]) -> None:
    policies, deployments = names("p", len(matrix)), names("d", len(matrix[0]))
    found = compare_table(policies, deployments, matrix, objective="online")
    column = {name: [row[index] for row in matrix] for index, name in enumerate(deployments)}
    best = {each.deployment: each for each in found.best}
    for name in deployments:
        assert best[name].latency_s == min(column[name]) == column[name][policies.index(best[name].policy)]
        assert (best[name].runner_up is None) == (len(policies) == 1)
        assert best[name].runner_up != best[name].policy
    assert len(found.regrets) == len(deployments) * (len(deployments) - 1)
    for regret in found.regrets:
        assert regret.policy == best[regret.chosen_for].policy
        taken = column[regret.used_on][policies.index(regret.policy)]
        assert regret.latency_s == taken
        assert regret.regret_s == taken - min(column[regret.used_on]) >= 0
        assert regret.regret == pytest.approx(regret.regret_s / min(column[regret.used_on]))


def test_a_winner_is_clear_when_no_interval_reaches_its_own() -> None:
    for low, clear in ((1.21, True), (1.19, False)):
        found = compare_table(
            ("p", "q"), ("d",), ((1.0,), (1.5,)), objective="total", low_s=((0.8,), (low,)), high_s=((1.2,), (2.0,))
        )
        assert found.best[0].clear is clear


def test_nothing_cannot_be_compared() -> None:
    with pytest.raises(BadInput, match="at least one policy"):
        compare_table((), ("d",), (), objective="total")
