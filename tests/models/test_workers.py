"""A layer split among workers: what the busiest of them does, and how long that takes."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np
import pytest

from autoprivacy.common.errors import UnmodelledOperation
from autoprivacy.models.machine_model import MachineModel
from autoprivacy.models.prediction import Deployment, of_one_worker, predict
from autoprivacy.protocol import linear_layer
from autoprivacy.protocol.counting import CountingHe
from autoprivacy.protocol.encoded_weights import EncodedWeights, product_bytes
from autoprivacy.protocol.he_set import he_set_for
from autoprivacy.protocol.linear_layer import default_tile_of, layout_of
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.plan import Plan, Work
from autoprivacy.protocol.wire import ciphertext_bytes, response_bytes
from tests import synthetic

SHAPES = {
    "one window": LinearShape(6, 12, 12, 10, (3, 3), (1, 1), (1, 1, 1, 1), 1),
    "windows": LinearShape(4, 30, 40, 3, (3, 3), (1, 1), (1, 1, 1, 1), 1),
    "one response": LinearShape(2, 4, 4, 1, (3, 3), (1, 1), (1, 1, 1, 1), 1),
}


@pytest.fixture(scope="module")
def able() -> MachineModel:
    """A machine on which two processes at once are a tenth slower."""
    return replace(synthetic.model(), worker_slowdown=((1, 1.0), (2, 1.1)))


def counted(shape: LinearShape, first: int, last: int) -> Counter[str]:
    """What the interpreter counts for some responses."""
    he_set = he_set_for(1024, (26,), 1 << 8)
    layout = layout_of(shape, "coefficients", default_tile_of(shape, "coefficients", 1024), 1024)
    he = CountingHe(he_set)
    size = product_bytes(1024, he_set.limbs)
    weights = EncodedWeights(he, layout, np.ones(shape.weight_shape, np.int64), size, 1 << 30)
    he.operations.clear()
    requests: list[Literal[True]] = [True] * layout.inputs
    linear_layer.answer(he, layout, weights, requests, None, range(first, last))
    return he.operations


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_busiest_worker_does_what_the_interpreter_counts(shape: LinearShape, workers: int) -> None:
    layout = layout_of(shape, "coefficients", default_tile_of(shape, "coefficients", 1024), 1024)
    responses = layout.responses
    sizes = layout.response_sizes
    whole = {"receive": layout.inputs, "to_ntt": layout.inputs, "from_ntt": responses, "respond": responses}
    works = [Work(name, 1024, 26, calls, 0) for name, calls in whole.items()]
    works.append(Work("encrypt", 1024, 26, layout.inputs, 0, bytes=ciphertext_bytes(1024, (67104769,))))
    works.append(Work("decrypt", 1024, 26, responses, int(sizes.sum()), bytes=response_bytes(1024, (67104769,), 1)))
    found = {work.operation: work.calls for work in of_one_worker(works, layout.out_parts, workers)}
    ends = [worker * responses // workers for worker in range(workers + 1)]
    each = [counted(shape, first, last) for first, last in pairwise(ends)]
    assert {name: found[name] for name in whole} == {name: max(count[name] for count in each) for name in whole}
    assert (found["encrypt"], found["decrypt"]) == (layout.inputs, responses)


def test_workers_save_time_but_not_all_of_it(able: MachineModel, planned: Plan) -> None:
    one, two = (predict(planned, Deployment(able, able, workers=workers)) for workers in (1, 2))
    for before, after in zip(one.layers, two.layers, strict=True):
        assert after.components.client_he_s == before.components.client_he_s
        assert after.components.link_s == before.components.link_s
        assert after.components.server_he_s > before.components.server_he_s / 2
    assert two.latency_s < 1.1 * one.latency_s


def test_more_workers_than_were_measured_are_refused(able: MachineModel, planned: Plan) -> None:
    with pytest.raises(UnmodelledOperation, match="at most 2 processes"):
        predict(planned, Deployment(able, able, workers=3))
