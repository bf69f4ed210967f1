"""Garbling and evaluating equals running in the clear, and the evaluator sees one label of each wire."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from autoprivacy.common.errors import ProtocolError
from autoprivacy.protocol import garbling
from autoprivacy.protocol.circuits import Circuit, relu_requantise, to_bits

Bits = NDArray[np.uint8]


@st.composite
def circuits(draw: st.DrawFn) -> Circuit:
    sides = draw(st.lists(st.booleans(), min_size=1, max_size=6))
    gates: list[tuple[int, int, int]] = []
    for _ in range(draw(st.integers(0, 25))):
        wire = st.integers(0, len(sides) + len(gates) - 1)
        operation, a, b = draw(st.integers(0, 2)), draw(wire), draw(wire)
        gates.append((operation, a, a if operation == 2 else b))
    wire = st.integers(0, len(sides) + len(gates) - 1)
    return Circuit(
        gates=np.array(gates, dtype=np.int32).reshape(-1, 3),
        server_inputs=np.array(sides, dtype=np.bool_),
        outputs=np.array(draw(st.lists(wire, min_size=1, max_size=8)), dtype=np.int32),
    )


def client_labels(rng: np.random.Generator, bits: Bits, delta: bytes) -> tuple[Bits, Bits]:
    """What an oblivious transfer would give: zero labels to the server, active ones to the client."""
    zero = rng.integers(0, 256, (*bits.shape, 16), dtype=np.uint8)
    return zero, zero ^ bits[:, :, None] * np.frombuffer(delta, dtype=np.uint8)


def run_garbled(circuit: Circuit, bits: Bits, seed: int) -> Bits:
    delta, start = garbling.new_delta(), garbling.new_start()
    zero, active = client_labels(np.random.default_rng(seed), bits[~circuit.server_inputs], delta)
    batch = garbling.garble(circuit, zero, bits[circuit.server_inputs], delta, start)
    sent = batch.to_bytes()
    assert len(sent) == garbling.garbled_bytes(circuit, bits.shape[1])
    got = garbling.GarbledBatch.from_bytes(circuit, bits.shape[1], sent)
    output = garbling.evaluate(circuit, active, got.server_labels, got.tables, got.start)
    return garbling.decode(output, got.output_colours)


@given(circuit=circuits(), instances=st.integers(1, 70), seed=st.integers(0, 2**32))
def test_garbled_equals_clear_for_any_circuit(circuit: Circuit, instances: int, seed: int) -> None:
    bits = np.random.default_rng(seed).integers(0, 2, (circuit.inputs, instances), dtype=np.uint8)
    np.testing.assert_array_equal(run_garbled(circuit, bits, seed), circuit.evaluate_clear(bits))


@pytest.mark.parametrize(("widths", "relu"), [((16, 5, 4, 16), True), ((20, 0, 8, 12), False), ((32, 0, 31, 32), True)])
def test_garbled_equals_clear_for_requantisation(widths: tuple[int, int, int, int], relu: bool) -> None:  # noqa: FBT001
    circuit = relu_requantise(*widths, relu=relu)
    bits = np.random.default_rng(1).integers(0, 2, (circuit.inputs, 300), dtype=np.uint8)
    np.testing.assert_array_equal(run_garbled(circuit, bits, 2), circuit.evaluate_clear(bits))


def adder() -> Circuit:
    return relu_requantise(6, 1, 3, 5)


def test_what_the_client_holds_is_one_label_of_each_wire() -> None:
    """No two of its labels, and no label and table row, differ by Delta; and it decodes nothing but outputs."""
    circuit, delta = adder(), garbling.new_delta()
    bits = np.random.default_rng(3).integers(0, 2, (circuit.inputs, 9), dtype=np.uint8)
    zero, active = client_labels(np.random.default_rng(4), bits[~circuit.server_inputs], delta)
    batch = garbling.garble(circuit, zero, bits[circuit.server_inputs], delta, garbling.new_start())
    wires = Circuit(
        circuit.gates, circuit.server_inputs, np.arange(circuit.inputs + len(circuit.gates), dtype=np.int32)
    )
    seen = garbling.evaluate(wires, active, batch.server_labels, batch.tables, batch.start)
    blocks = {row.tobytes() for row in np.concatenate([seen.reshape(-1, 16), batch.tables.reshape(-1, 16)])}
    shifted = {(np.frombuffer(row, dtype=np.uint8) ^ np.frombuffer(delta, dtype=np.uint8)).tobytes() for row in blocks}
    nothing_but_not_gates = {
        (seen[circuit.inputs + g, i] ^ np.frombuffer(delta, dtype=np.uint8)).tobytes()
        for g, (operation, _, _) in enumerate(circuit.gates.tolist())
        if operation == 2
        for i in range(9)
    }
    assert delta not in blocks
    assert not (blocks & shifted) - nothing_but_not_gates


def test_server_labels_are_fresh_in_every_batch() -> None:
    circuit, delta = adder(), garbling.new_delta()
    bits = np.zeros((circuit.inputs, 2), dtype=np.uint8)
    zero, _ = client_labels(np.random.default_rng(5), bits[~circuit.server_inputs], delta)
    first, second = (
        garbling.garble(circuit, zero, bits[circuit.server_inputs], delta, garbling.new_start()) for _ in range(2)
    )
    assert first.start != second.start
    assert not (first.server_labels == second.server_labels).all(axis=-1).any()


def test_a_changed_table_changes_the_output_and_crashes_nothing() -> None:
    circuit, delta, start = adder(), garbling.new_delta(), garbling.new_start()
    bits = np.random.default_rng(6).integers(0, 2, (circuit.inputs, 8), dtype=np.uint8)
    zero, active = client_labels(np.random.default_rng(7), bits[~circuit.server_inputs], delta)
    batch = garbling.garble(circuit, zero, bits[circuit.server_inputs], delta, start)
    right = garbling.evaluate(circuit, active, batch.server_labels, batch.tables, start)
    for hostile in (np.zeros_like(batch.tables), np.full_like(batch.tables, 255), batch.tables ^ np.uint8(1)):
        wrong = garbling.evaluate(circuit, active, batch.server_labels, hostile, start)
        assert (wrong != right).any()
        assert garbling.decode(wrong, batch.output_colours).max() <= 1
    assert (garbling.evaluate(circuit, active, batch.server_labels, batch.tables, bytes(16)) != right).any()


def test_delta_is_odd_and_random() -> None:
    deltas = {garbling.new_delta() for _ in range(50)}
    assert len(deltas) == 50
    assert all(len(delta) == 16 and delta[0] & 1 for delta in deltas)


def test_messages_of_the_wrong_length_are_refused() -> None:
    circuit = adder()
    size = garbling.garbled_bytes(circuit, 3)
    for wrong in (size - 1, size + 1, 0):
        with pytest.raises(ProtocolError, match="3 instances take"):
            garbling.GarbledBatch.from_bytes(circuit, 3, bytes(wrong))
    with pytest.raises(ProtocolError, match="colours"):
        garbling.decode(np.zeros((5, 3, 16), dtype=np.uint8), bytes(3))


def test_inputs_of_the_wrong_shape_are_refused() -> None:
    circuit, delta = adder(), garbling.new_delta()
    labels = np.zeros((6, 2, 16), dtype=np.uint8)
    bits = to_bits(np.zeros(2, dtype=np.uint64), 11)
    for bad_bits in (bits[:-1], bits[:, :1], bits | np.uint8(2)):
        with pytest.raises(ValueError, match=r"labels|server_bits"):
            garbling.garble(circuit, labels, bad_bits, delta, garbling.new_start())
    with pytest.raises(ValueError, match="client labels"):
        garbling.garble(circuit, labels[:5], bits, delta, garbling.new_start())
