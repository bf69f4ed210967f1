"""The exact optimum, as a mixed-integer program for HiGHS [HiGHS].

| variable | meaning |
|---|---|
| x[l, o] | 1 if layer l takes option o |
| y[f, c] | 1 if the layers of term f have the attributes c; continuous, since x decides it |

For every layer x adds up to 1; for every term, layer of it and attribute, y adds up to the x that have the attribute.
Combinations that a term forbids have no y. Seconds are scaled so that the solver's tolerances are far below what
matters, and penalties are whole numbers: no tolerance lets a policy pass the budget.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array

from autoprivacy.agent.methods.interface import Solution, solution_of
from autoprivacy.agent.problem import Floats, Ints, Problem, infeasible
from autoprivacy.common.errors import Refused


def solve(problem: Problem, budget: int, rng: np.random.Generator, most: int) -> Solution:  # noqa: ARG001 - a `Method`
    """The policy of least latency within the budget; proven."""
    reduced, kept = problem.reduced()
    program = _program(reduced)
    found = program.solve(program.seconds, program.penalty, float(budget))
    if found is None:
        raise infeasible(problem, budget)
    return solution_of(problem, _original(found, kept), 0, proven=True)


def most_accurate(problem: Problem, latency_budget_s: float) -> Solution:
    """The policy of least penalty whose latency is at most `latency_budget_s`: the dual problem.

    Raises:
        Refused: if no policy is so fast.
    """
    reduced, kept = problem.reduced()
    program = _program(reduced)
    limit, found = latency_budget_s - problem.constant_s, None
    for _ in range(60):  # the solver may pass the limit by its tolerance: then with a little less
        found = program.solve(program.penalty, program.seconds / latency_budget_s, limit / latency_budget_s)
        if found is None or problem.latency(_original(found, kept)[None])[0] <= latency_budget_s:
            break
        limit -= 1e-6 * latency_budget_s
    if found is None:
        fastest = solve(problem, sum(int(layer.penalty.max()) for layer in problem.layers), np.random.default_rng(0), 0)
        raise Refused(
            f"no policy takes at most {latency_budget_s:.4g} s; the fastest is predicted to take "
            f"{fastest.latency_s:.4g} s: allow that much with --latency-budget"
        )
    return solution_of(problem, _original(found, kept), 0, proven=True)


def _original(found: Ints, kept: tuple[Ints, ...]) -> Ints:
    return np.array([options[chosen] for options, chosen in zip(kept, found, strict=True)], np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class _Program:
    """Objectives over all variables (V,), and equality rows (E, V) with their right-hand sides."""

    seconds: Floats
    penalty: Floats
    rows: csr_array
    right: Floats
    binaries: int
    offsets: tuple[int, ...]

    def solve(self, least: Floats, limited: Floats, limit: float) -> Ints | None:
        """The options (layers,) of least `least` with `limited` at most `limit`; None if there are none."""
        scale = 1e4 / max(float(np.abs(least).max(initial=0.0)), 1e-300)
        constraints = [
            LinearConstraint(self.rows, self.right, self.right),
            LinearConstraint(csr_array(limited[None]), -np.inf, limit),
        ]
        integrality = np.zeros(len(least))
        integrality[: self.binaries] = 1
        found = milp(
            least * scale,
            integrality=integrality,
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": 0.0, "presolve": True},
        )
        return None if found.x is None else self._chosen(found.x, found.status)

    def _chosen(self, x: Floats, status: int) -> Ints:
        if status != 0:
            raise AssertionError(f"HiGHS ended with status {status}")
        ends = (*self.offsets[1:], self.binaries)
        return np.array([x[start:end].argmax() for start, end in zip(self.offsets, ends, strict=True)], np.int64)


def _program(problem: Problem) -> _Program:
    offsets = np.cumsum([0, *(layer.size for layer in problem.layers)])
    seconds = [layer.seconds for layer in problem.layers]
    entries: list[tuple[Ints, Ints, Floats]] = []
    right: list[Floats] = []
    row = 0
    for index, layer in enumerate(problem.layers):
        columns = offsets[index] + np.arange(layer.size)
        entries.append((np.full(layer.size, row), columns, np.ones(layer.size)))
        right.append(np.ones(1))
        row += 1
    variable = int(offsets[-1])
    for term in problem.terms:
        allowed = np.argwhere(np.isfinite(term.table))
        columns = variable + np.arange(len(allowed))
        seconds.append(term.table[tuple(allowed.T)])
        for axis, (index, of_option) in enumerate(zip(term.layers, term.attributes, strict=True)):
            values = term.table.shape[axis]
            entries.append((row + allowed[:, axis], columns, np.ones(len(allowed))))
            own = offsets[index] + np.arange(len(of_option))
            entries.append((row + of_option, own, -np.ones(len(of_option))))
            right.append(np.zeros(values))
            row += values
        variable += len(allowed)
    rows, columns, values = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    penalty = np.zeros(variable)
    penalty[: offsets[-1]] = np.concatenate([layer.penalty for layer in problem.layers])
    return _Program(
        seconds=np.concatenate(seconds),
        penalty=penalty,
        rows=csr_array(coo_array((values, (rows, columns)), shape=(row, variable))),
        right=np.concatenate(right),
        binaries=int(offsets[-1]),
        offsets=tuple(offsets[:-1].tolist()),
    )
