"""Methods that choose a policy for a `Problem`, all behind one interface (`interface.Method`)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from autoprivacy.agent.methods import bisection, enumeration, exact, greedy, random_search, tpe, uniform
from autoprivacy.agent.methods.interface import Method
from autoprivacy.common.errors import BadInput

METHODS: Final[Mapping[str, Method]] = MappingProxyType(
    {
        "exact": exact.solve,
        "enumeration": enumeration.solve,
        "greedy": greedy.solve,
        "bisection": bisection.solve,
        "uniform": uniform.solve,
        "random": random_search.solve,
        "tpe": tpe.solve,
    }
)
"""By the name that `search --method` takes."""


CALLS: Final[Mapping[str, int]] = MappingProxyType({"random": 2_000, "tpe": 2_000})
"""How many policies methods that draw may price unless told otherwise: as many each, which TPE can do in minutes."""

MOST_CALLS: Final = 200_000
"""The same for the others, which end by themselves."""


def method(name: str) -> Method:
    """The method of that name.

    Raises:
        BadInput: if there is none.
    """
    if name not in METHODS:
        raise BadInput(f"no method is called {name!r}; there are: {', '.join(METHODS)}")
    return METHODS[name]
