import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprivacy.common.errors import BadInput
from autoprivacy.networks import reference
from autoprivacy.networks.checkpoint import TrainedNetwork
from autoprivacy.networks.convolution import Ints
from autoprivacy.networks.data import Splits
from autoprivacy.networks.graph import INPUT
from autoprivacy.networks.integer_network import (
    IntegerLinear,
    IntegerSum,
    Operation,
    QuantisedNetwork,
    Requantise,
    Widths,
    WindowSum,
    meetings,
)
from autoprivacy.networks.quantisation import Quantiser, uniform_widths
from tests.networks.integers import (
    any_widths,
    linears,
    networks,
    plain_linear,
    plain_requantise,
    plain_run,
    quantiser_of,
    random_images,
    random_inputs,
)


@pytest.fixture(scope="module")
def quantised(trained: TrainedNetwork, digits: Splits) -> QuantisedNetwork:
    return Quantiser(trained, digits.calibrate.x).quantise(uniform_widths(trained.network, 5))


# Up to 40 + 16 bits and a kernel of 27 taps: sums pass 2^24 and 2^53, where the arithmetic underneath changes.
@settings(max_examples=100, deadline=None)
@given(layer=linears(most_weight_bits=40, most_input_bits=16), seed=st.integers(0, 2**32))
def test_linear_is_the_plain_sum_of_products(layer: IntegerLinear, seed: int) -> None:
    x = random_inputs(layer.input_shape, *layer.input_range, images=2, seed=seed)
    expected = [plain_linear(layer, image) for image in x.tolist()]
    assert reference.linear(layer, x).tolist() == expected
    alone = _network((layer,), layer.input_shape)
    assert reference.run(alone, x).accumulators["layer"].tolist() == expected


@settings(max_examples=60, deadline=None)
@given(trained=networks(), data=st.data(), seed=st.integers(0, 2**32), signed=st.booleans())
def test_any_network_runs_as_plain_integers_do(
    trained: TrainedNetwork, data: st.DataObject, seed: int, *, signed: bool
) -> None:
    network = trained.network
    quantiser = quantiser_of(trained, random_images(network, 8, seed, signed=signed))
    quantised = quantiser.quantise(data.draw(st.composite(any_widths)(network, 16)))
    x = quantised.quantise_input(random_images(network, 2, seed + 1, signed=signed))
    rng = np.random.default_rng(seed)
    reach = data.draw(st.sampled_from([0, 5, 1 << 30]))
    errors = {
        layer.name: rng.integers(-reach, reach + 1, (2, *layer.output_shape)) for layer in quantised.linear_layers
    }
    given_moduli: dict[str, int] = {}
    moduli: dict[str, int] = {}
    for meeting in meetings(quantised):
        if data.draw(st.booleans()):
            t = data.draw(st.integers(2, 1 << 20))
            given_moduli |= dict.fromkeys(meeting.layers, t)
            moduli |= dict.fromkeys(meeting.circuit_inputs, t)
    trace = reference.run(quantised, x, errors=errors, moduli=given_moduli)
    for index in range(2):
        plain = plain_run(
            quantised, x[index].tolist(), {name: error[index].tolist() for name, error in errors.items()}, moduli
        )
        for name, found in trace.accumulators.items():
            assert found[index].tolist() == plain[name]
        for name, found in trace.circuit_inputs.items():
            assert found[index].tolist() == plain.get(f"{name} mod t", plain[name])
        for name, found in trace.activations.items():
            assert found[index].tolist() == plain[name]
        last = quantised.operations[-1].name
        assert trace.logits[index].tolist() == np.ravel(plain.get(f"{last} mod t", plain[last])).tolist()
    logits = reference.logits(quantised, x, errors=errors, moduli=given_moduli)
    np.testing.assert_array_equal(logits, trace.logits)


def _network(operations: tuple[Operation, ...], shape: tuple[int, int, int]) -> QuantisedNetwork:
    return QuantisedNetwork("net", "", Widths(()), operations, shape, (0, 255), 1.0, 1.0)


def _values(*values: int) -> Ints:
    return np.array(values).reshape(1, -1, 1, 1)


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        (Requantise(np.array([0, 1, 2]), 3, relu=True), (5, 5, 5), (5, 2, 1)),
        (Requantise(np.array([0, 1, 2]), 3, relu=True), (8, 16, 32), (7, 7, 7)),
        (Requantise(np.array([0, 1, 2]), 3, relu=True), (-1, -9, -100), (0, 0, 0)),
        (Requantise(np.array([0, 0, 1]), 3, relu=True, maximum=6), (7, 6, 13), (6, 6, 6)),
        (Requantise(np.array([0, 1, 1]), 3, relu=False), (-5, -5, -1), (-4, -3, -1)),
        (Requantise(np.array([0, 1, 40]), 3, relu=False), (4, 7, -(2**41) - 1), (3, 3, -3)),
    ],
)
@pytest.mark.parametrize("kind", [np.int64, np.float64])
def test_requantisation_by_hand(
    rule: Requantise, values: tuple[int, ...], expected: tuple[int, ...], kind: type[np.number]
) -> None:
    found = reference.requantise(rule, _values(*values).astype(kind))
    assert found.dtype == kind
    assert found.ravel().tolist() == list(expected)


@given(
    values=st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=20),
    shift=st.integers(0, 40),
    bits=st.integers(1, 16),
    relu=st.booleans(),
)
def test_requantisation_is_floor_division_then_saturation(
    values: list[int], shift: int, bits: int, *, relu: bool
) -> None:
    rule = Requantise(np.full(len(values), shift), bits, relu)
    expected = plain_requantise(rule, [[[value]] for value in values])
    assert reference.requantise(rule, _values(*values))[0].tolist() == expected


def test_sums_shift_their_terms_and_add_a_constant() -> None:
    double = IntegerSum("sum", ((INPUT, np.array([0, 2])), (INPUT, np.array([1, 0]))), np.array([0, -7]))
    assert reference.run(_network((double,), (2, 1, 1)), _values(3, 5)).logits.tolist() == [[9, 18]]


@pytest.mark.parametrize("edge", [1 << 24, 1 << 53])
@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_sums_are_exact_on_both_sides_of_what_a_float_holds(edge: int, offset: int) -> None:
    # The terms fit a float; their sum, or with the constant, may not.
    value, shift = 3, edge.bit_length() - 3
    rest = edge + offset - (value << shift)
    double = IntegerSum("sum", ((INPUT, np.array([shift])),), np.array([rest]))
    assert reference.run(_network((double,), (1, 1, 1)), _values(value)).logits.tolist() == [[edge + offset]]


def test_sums_beyond_64_bits_are_refused() -> None:
    large = IntegerSum("sum", ((INPUT, np.array([61])),), np.array([0]))
    with pytest.raises(OverflowError):
        reference.run(_network((large,), (1, 1, 1)), _values(4))


@given(values=st.lists(st.integers(-(2**61), 2**61), min_size=1), t=st.integers(2, 2**62))
def test_wrapping_gives_the_representative_of_least_magnitude(values: list[int], t: int) -> None:
    for before, after in zip(values, reference.wrap(np.array(values), t).tolist(), strict=True):
        assert (after - before) % t == 0
        assert -t <= 2 * after < t


@pytest.mark.parametrize(("t", "expected"), [(8, [-4, -4, 3, 3, -4, 0]), (7, [2, 3, -3, 3, -3, 1])])
def test_wrapping_by_hand(t: int, expected: list[int]) -> None:
    assert reference.wrap(np.array([-12, -4, -5 if t == 8 else -3, 3, 4, 8]), t).tolist() == expected


def test_a_window_sum_is_wrapped_only_where_it_enters_a_circuit() -> None:
    pool = WindowSum("pool", INPUT, (2, 2), (1, 1), (0, 0, 0, 0))
    layer = IntegerLinear(
        name="fc",
        kind="linear",
        source="pool",
        weight=np.ones((1, 1, 1, 1), np.int64),
        bias=np.zeros(1, np.int64),
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        groups=1,
        input_shape=(1, 1, 1),
        output_shape=(1, 1, 1),
        input_range=(0, 1020),
    )
    x = np.full((1, 1, 2, 2), 255)
    assert reference.run(_network((pool, layer), (1, 2, 2)), x, moduli={"fc": 1000}).logits.tolist() == [[20]]


def test_a_batch_is_its_images_one_by_one(quantised: QuantisedNetwork, digits: Splits) -> None:
    x = quantised.quantise_input(digits.search.x[:8])
    alone = [reference.run(quantised, x[index : index + 1]).logits for index in range(8)]
    np.testing.assert_array_equal(reference.run(quantised, x).logits, np.concatenate(alone))


def test_chunks_change_nothing(quantised: QuantisedNetwork, digits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    x = quantised.quantise_input(digits.search.x[:50])
    errors = {"conv2": np.random.default_rng(1).integers(-99, 100, (50, 16, 4, 4))}
    whole = reference.run(quantised, x, errors=errors)
    monkeypatch.setattr(reference, "VALUES_AT_ONCE", 4000)
    assert len(list(reference.traces(quantised, x))) == 8
    again = reference.run(quantised, x, errors=errors)
    np.testing.assert_array_equal(again.logits, whole.logits)
    for name, found in whole.activations.items():
        np.testing.assert_array_equal(again.activations[name], found)
    np.testing.assert_array_equal(reference.logits(quantised, x, errors=errors), whole.logits)


def test_no_images_give_no_logits(quantised: QuantisedNetwork) -> None:
    assert reference.logits(quantised, np.zeros((0, 1, 8, 8), np.int64)).shape == (0, 10)


def test_errors_enter_at_the_linear_output_and_carry_on(quantised: QuantisedNetwork, digits: Splits) -> None:
    x = quantised.quantise_input(digits.search.x[:5])
    clean = reference.run(quantised, x)
    rng = np.random.default_rng(3)
    conv2, fc = quantised.stages[1:]
    errors = {each.name: rng.integers(-40, 41, (5, *each.output_shape)) for each in (conv2, fc)}
    noisy = reference.run(quantised, x, errors=errors)
    np.testing.assert_array_equal(noisy.accumulators["conv1"], clean.accumulators["conv1"])
    sums = clean.accumulators["conv2"] + errors["conv2"]
    np.testing.assert_array_equal(noisy.accumulators["conv2"], sums)
    assert conv2.requantise is not None
    activations = reference.requantise(conv2.requantise, sums)
    np.testing.assert_array_equal(noisy.accumulators["fc"], reference.linear(fc, activations) + errors["fc"])
    assert (noisy.logits != clean.logits).any()


def test_a_modulus_wraps_sums_with_their_errors(quantised: QuantisedNetwork, digits: Splits) -> None:
    x = quantised.quantise_input(digits.search.x[:5])
    errors = {"fc": np.full((5, 10, 1, 1), 7)}
    free = reference.run(quantised, x, errors=errors)
    wrapped = reference.run(quantised, x, errors=errors, moduli={"fc": 64})
    assert (wrapped.logits != free.logits).any()
    np.testing.assert_array_equal(wrapped.logits, (free.logits + 32) % 64 - 32)


@pytest.mark.parametrize(
    ("shape", "errors", "moduli", "named"),
    [
        ((2, 8, 8), {}, {}, "(N, 1, 8, 8)"),
        ((2, 1, 7, 8), {}, {}, "(N, 1, 8, 8)"),
        ((2, 1, 8, 8), {"conv3": np.zeros((2, 8, 8, 8), np.int64)}, {}, "conv3"),
        ((2, 1, 8, 8), {"conv1": np.zeros((1, 8, 8, 8), np.int64)}, {}, "(2, 8, 8, 8)"),
        ((2, 1, 8, 8), {"conv1": np.zeros((2, 8, 8, 8))}, {}, "int64"),
        ((2, 1, 8, 8), {}, {"relu1": 12}, "relu1"),
        ((2, 1, 8, 8), {}, {"conv1": 1}, "2..2^62"),
        ((2, 1, 8, 8), {}, {"conv1": (1 << 62) + 1}, "2..2^62"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    quantised: QuantisedNetwork,
    shape: tuple[int, ...],
    errors: dict[str, np.ndarray],
    moduli: dict[str, int],
    named: str,
) -> None:
    with pytest.raises(BadInput) as caught:
        reference.run(quantised, np.zeros(shape, np.int64), errors=errors, moduli=moduli)
    assert named in str(caught.value)


def test_images_that_were_not_quantised_are_refused(quantised: QuantisedNetwork, digits: Splits) -> None:
    with pytest.raises(BadInput, match="float32"):
        reference.run(quantised, digits.search.x)  # type: ignore[arg-type]  # wrong on purpose
