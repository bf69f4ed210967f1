"""Methods that choose a policy for a `Problem`, all behind one interface (`interface.Method`)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from autoprivacy.agent.methods import bisection, ddpg, enumeration, exact, greedy, random_search, tpe, uniform
from autoprivacy.agent.methods.interface import DualMethod, Method, Solution
from autoprivacy.agent.problem import Problem
from autoprivacy.common.errors import BadInput

METHODS: Final[Mapping[str, Method]] = MappingProxyType(
    {
        "exact": exact.solve,
        "enumeration": enumeration.solve,
        "greedy": greedy.solve,
        "bisection": bisection.solve,
        "uniform": uniform.solve,
        "ddpg": ddpg.solve,
        "random": random_search.solve,
        "tpe": tpe.solve,
    }
)
"""By the name that `search --method` takes."""


CALLS: Final[Mapping[str, int]] = MappingProxyType({"ddpg": 2_000, "random": 2_000, "tpe": 2_000})
"""How many policies methods that draw may price unless told otherwise: as many each, which TPE can do in minutes."""

MOST_CALLS: Final = 200_000
"""The same for the others, which end by themselves."""


def _most_accurate(problem: Problem, latency_budget_s: float, rng: np.random.Generator, most: int) -> Solution:  # noqa: ARG001 - a `DualMethod`
    return exact.most_accurate(problem, latency_budget_s)


DUAL_METHODS: Final[Mapping[str, DualMethod]] = MappingProxyType(
    {
        "exact": _most_accurate,
        "ddpg": ddpg.most_accurate,
        "random": random_search.most_accurate,
        "tpe": tpe.most_accurate,
    }
)
"""Those that also find the most accurate policy within a latency."""


def dual_method(name: str) -> DualMethod:
    """The method of that name for a latency budget.

    Raises:
        BadInput: if there is none.
    """
    if name not in DUAL_METHODS:
        raise BadInput(f"the method {name!r} takes no latency budget; these do: {', '.join(DUAL_METHODS)}")
    return DUAL_METHODS[name]


def method(name: str) -> Method:
    """The method of that name.

    Raises:
        BadInput: if there is none.
    """
    if name not in METHODS:
        raise BadInput(f"no method is called {name!r}; there are: {', '.join(METHODS)}")
    return METHODS[name]
