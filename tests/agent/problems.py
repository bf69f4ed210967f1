"""Random problems of every shape: chains, residual couplings, terms that forbid."""

from dataclasses import replace

import numpy as np

from autoprivacy.agent.problem import Ints, Layer, Problem, Term


def layer(rng: np.random.Generator, name: str, options: int) -> Layer:
    penalty = rng.integers(0, 60, options)
    penalty[rng.integers(options)] = 0
    return Layer(name, rng.random(options), penalty.astype(np.int64), rng.integers(0, 2, options).astype(np.int64))


def attribute(rng: np.random.Generator, options: int, values: int) -> Ints:
    return rng.integers(0, values, options).astype(np.int64)


def term(
    rng: np.random.Generator, layers: tuple[Layer, ...], scope: tuple[int, ...], *, forbid: float = 0.0, values: int = 3
) -> Term:
    attributes = tuple(attribute(rng, layers[index].size, values) for index in scope)
    table = rng.random((values,) * len(scope))
    table[rng.random(table.shape) < forbid] = np.inf
    return Term(scope, attributes, table)


def chain(seed: int, layers: int = 4, options: int = 5, *, forbid: float = 0.0) -> Problem:
    rng = np.random.default_rng(seed)
    made = tuple(layer(rng, f"layer{index}", options) for index in range(layers))
    terms = [term(rng, made, (index, index + 1), forbid=forbid) for index in range(layers - 1)]
    return Problem(made, tuple(terms), 0.25)


def residual(seed: int, options: int = 4, *, forbid: float = 0.1) -> Problem:
    """Five layers in two blocks: terms look at up to four of them, and one only allows equal attributes."""
    rng = np.random.default_rng(seed)
    made = tuple(layer(rng, f"layer{index}", options) for index in range(5))
    equal = np.where(np.eye(2, dtype=bool), 0.0, np.inf)
    same = Term((1, 3), tuple(attribute(rng, options, 2) for _ in range(2)), equal)
    terms = (
        term(rng, made, (0, 1, 2), forbid=forbid),
        term(rng, made, (1, 2)),
        term(rng, made, (0, 2, 3, 4), values=2),
        term(rng, made, (3, 4), forbid=forbid),
        same,
    )
    return Problem(made, terms, 1.0)


def with_traits(problem: Problem, penalty: int = 0) -> Problem:
    """The same with two traits of every option and a fact of every layer, and so much more penalty."""
    rng = np.random.default_rng(0)
    layers = tuple(
        replace(
            each,
            penalty=each.penalty + penalty,
            traits=rng.choice([0.25, 0.5, 1.0], (each.size, 2)),
            facts=(float(rng.random()),),
        )
        for each in problem.layers
    )
    return replace(problem, layers=layers, deployment=(0.5,))
