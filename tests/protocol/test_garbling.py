"""Garbling and evaluating equals running in the clear, and the evaluator sees one label of each wire."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from autoprivacy.common.errors import ProtocolError
from autoprivacy.protocol import _native, garbling
from autoprivacy.protocol.circuits import Circuit, relu_requantise, to_bits
from autoprivacy.protocol.garbling import Hash, Starts

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


def run_garbled(circuit: Circuit, bits: Bits, seed: int, hash_: Hash = Hash.REKEYED) -> Bits:
    delta = garbling.new_delta()
    zero, active = client_labels(np.random.default_rng(seed), bits[~circuit.server_inputs], delta)
    parts = garbling.garble_pieces(circuit, zero, bits[circuit.server_inputs], delta, garbling.new_start(), hash_=hash_)
    sent = b"".join(bytes(part) for part in parts)
    assert len(sent) == garbling.garbled_bytes(circuit, bits.shape[1])
    return garbling.evaluate(circuit, active, sent, hash_=hash_)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(circuit=circuits(), instances=st.integers(1, 70), seed=st.integers(0, 2**32))
def test_garbled_equals_clear_for_any_circuit(circuit: Circuit, instances: int, seed: int) -> None:
    bits = np.random.default_rng(seed).integers(0, 2, (circuit.inputs, instances), dtype=np.uint8)
    for hash_ in Hash:
        np.testing.assert_array_equal(run_garbled(circuit, bits, seed, hash_), circuit.evaluate_clear(bits))


@pytest.mark.parametrize(("widths", "relu"), [((16, 5, 4, 16), True), ((20, 0, 8, 12), False), ((32, 0, 31, 32), True)])
def test_garbled_equals_clear_for_requantisation(widths: tuple[int, int, int, int], relu: bool) -> None:  # noqa: FBT001
    circuit = relu_requantise(*widths, relu=relu)
    bits = np.random.default_rng(1).integers(0, 2, (circuit.inputs, 300), dtype=np.uint8)
    np.testing.assert_array_equal(run_garbled(circuit, bits, 2), circuit.evaluate_clear(bits))


def adder() -> Circuit:
    return relu_requantise(6, 1, 3, 5)


def message(circuit: Circuit, zero: Bits, bits: Bits, delta: bytes, start: bytes) -> bytearray:
    made = bytearray(garbling.garbled_bytes(circuit, bits.shape[1]))
    garbling.garble(circuit, zero, bits[circuit.server_inputs], delta, start, memoryview(made))
    return made


def parts_of(circuit: Circuit, instances: int, sent: bytearray) -> tuple[Bits, Bits]:
    """Server labels (inputs, instances, 16) and table rows (rows, 32) of a batch of one piece."""
    array = np.frombuffer(sent, dtype=np.uint8)[16:]
    labels = garbling.server_label_bytes(circuit, instances)
    tables = len(array) - garbling.table_bytes(circuit, instances)
    return array[:labels].reshape(-1, instances, 16), array[tables:].reshape(-1, 32)


def test_what_the_client_holds_is_one_label_of_each_wire() -> None:
    """No two of its labels, and no label and table row, differ by Delta."""
    circuit, delta, start = adder(), garbling.new_delta(), garbling.new_start()
    bits = np.random.default_rng(3).integers(0, 2, (circuit.inputs, 9), dtype=np.uint8)
    zero, active = client_labels(np.random.default_rng(4), bits[~circuit.server_inputs], delta)
    server_labels, tables = parts_of(circuit, 9, message(circuit, zero, bits, delta, start))
    every_wire = np.arange(circuit.inputs + len(circuit.gates), dtype=np.int32)
    inputs = np.empty((circuit.inputs, 9, 16), dtype=np.uint8)
    inputs[circuit.server_inputs], inputs[~circuit.server_inputs] = server_labels, active
    program = _native.Program(circuit.gates, circuit.server_inputs, every_wire)
    seen = program.evaluate(inputs, np.ascontiguousarray(tables), start)
    blocks = {row.tobytes() for row in np.concatenate([seen.reshape(-1, 16), tables.reshape(-1, 16)])}
    shifted = {(np.frombuffer(row, dtype=np.uint8) ^ np.frombuffer(delta, dtype=np.uint8)).tobytes() for row in blocks}
    assert delta not in blocks
    assert not blocks & shifted


def test_server_labels_are_fresh_in_every_batch() -> None:
    circuit, delta = adder(), garbling.new_delta()
    bits = np.zeros((circuit.inputs, 2), dtype=np.uint8)
    zero, _ = client_labels(np.random.default_rng(5), bits[~circuit.server_inputs], delta)
    first, second = (message(circuit, zero, bits, delta, garbling.new_start()) for _ in range(2))
    assert first[:16] != second[:16]
    assert not (parts_of(circuit, 2, first)[0] == parts_of(circuit, 2, second)[0]).all(axis=-1).any()


def test_a_changed_message_changes_the_output_and_crashes_nothing() -> None:
    circuit, delta, start = adder(), garbling.new_delta(), garbling.new_start()
    bits = np.random.default_rng(6).integers(0, 2, (circuit.inputs, 8), dtype=np.uint8)
    zero, active = client_labels(np.random.default_rng(7), bits[~circuit.server_inputs], delta)
    sent = message(circuit, zero, bits, delta, start)
    right = garbling.evaluate(circuit, active, sent)
    for hostile in (bytes(len(sent)), b"\xff" * len(sent), bytes(16) + sent[16:]):
        wrong = garbling.evaluate(circuit, active, hostile)
        assert (wrong != right).any()
        assert wrong.max() <= 1


@pytest.mark.parametrize("instances", [1, 64, 1000, 1500])
def test_pieces_put_together_are_the_batch_whatever_their_size(instances: int, monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = adder()
    bits = np.random.default_rng(8).integers(0, 2, (circuit.inputs, instances), dtype=np.uint8)
    for piece_bytes in (1, 1 << 17, 1 << 30):
        monkeypatch.setattr(garbling, "PIECE_BYTES", piece_bytes)
        cut = list(garbling.pieces(circuit, instances))
        assert sum(garbling.piece_bytes(circuit, count) for _, count in cut) + 16 == garbling.garbled_bytes(
            circuit, instances
        )
        np.testing.assert_array_equal(run_garbled(circuit, bits, 9), circuit.evaluate_clear(bits))


def test_pieces_use_one_buffer() -> None:
    circuit, delta = adder(), garbling.new_delta()
    bits = np.zeros((circuit.inputs, 5000), dtype=np.uint8)
    zero, _ = client_labels(np.random.default_rng(5), bits[~circuit.server_inputs], delta)
    parts = list(garbling.garble_pieces(circuit, zero, bits[circuit.server_inputs], delta, garbling.new_start()))
    addresses = {np.frombuffer(part, dtype=np.uint8).ctypes.data for part in parts[1:]}
    assert len(parts) > 3
    assert len(addresses) == 1
    assert max(map(len, parts)) < 2 * garbling.PIECE_BYTES


def test_no_key_of_a_session_repeats() -> None:
    """Every AES key (start ^ tweak) of several batches, gates and instances, counted out."""
    keys: list[int] = []
    starts, circuit = Starts(), adder()
    for instances in (1, 64, 65, 300, 1):
        start = int.from_bytes(starts(), "little")
        keys += [start ^ tweak for tweak in range(2 * circuit.and_gates * instances)]
    assert len(set(keys)) == len(keys)
    many = [starts() for _ in range(1000)]
    assert len({start[4:] for start in many}) == 1000
    assert {start[:4] for start in many} == {bytes(4)}  # what tweaks fill
    assert len({Starts()()[8:] for _ in range(100)}) == 100


def halves_for_equal_labels(instances: int, starts: list[bytes]) -> list[bytes]:
    """The table halves of batches whose gates and instances all have the same labels: they repeat where a key does."""
    circuit = Circuit(
        gates=np.array([(0, 0, 1)] * 5, dtype=np.int32),
        server_inputs=np.zeros(2, dtype=np.bool_),
        outputs=np.arange(2, 7, dtype=np.int32),
    )
    zero = np.repeat(np.arange(32, dtype=np.uint8).reshape(2, 1, 16), instances, axis=1)
    delta, none, halves = bytes(range(1, 17)), np.empty((0, instances), dtype=np.uint8), []
    for start in starts:
        _, *parts = map(bytes, garbling.garble_pieces(circuit, zero, none, delta, start))
        for part, (_, count) in zip(parts, garbling.pieces(circuit, instances), strict=True):
            tables = part[-garbling.table_bytes(circuit, count) :]
            halves += [tables[i : i + 16] for i in range(0, len(tables), 16)]
    return halves


def test_no_key_repeats_across_gates_instances_pieces_batches_and_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searched for in what is sent, not in what the code says it uses."""
    monkeypatch.setattr(garbling, "PIECE_BYTES", 1)
    starts = [start for session in (Starts(), Starts(), Starts()) for start in (session(), session(), session())]
    halves = halves_for_equal_labels(200, starts)
    assert len(halves) == len(starts) * 200 * 5 * 2
    assert len(set(halves)) == len(halves)
    repeated = halves_for_equal_labels(200, [*starts[:2], starts[0]])
    assert len(set(repeated)) == 2 * 200 * 5 * 2


def test_starts_end_before_they_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbling, "MAX_BATCHES", 2)
    starts = Starts()
    assert starts() != starts()
    with pytest.raises(ProtocolError, match="new session"):
        starts()


def test_a_forked_process_draws_starts_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = Starts()
    before = starts()
    monkeypatch.setattr("os.getpid", lambda: -7)
    assert starts()[8:] != before[8:]


def test_delta_is_odd_and_random() -> None:
    deltas = {garbling.new_delta() for _ in range(50)}
    assert len(deltas) == 50
    assert all(len(delta) == 16 and delta[0] & 1 for delta in deltas)


def test_messages_of_the_wrong_length_are_refused() -> None:
    circuit = adder()
    size = garbling.garbled_bytes(circuit, 3)
    labels = np.zeros((6, 3, 16), dtype=np.uint8)
    for wrong in (size - 1, size + 1, 0):
        with pytest.raises(ProtocolError, match="3 instances take"):
            garbling.evaluate(circuit, labels, bytes(wrong))
    evaluation = garbling.Evaluation(circuit, labels, bytes(16))
    with pytest.raises(ValueError, match="bytes given"):
        evaluation.take(bytes(5))
    with pytest.raises(ValueError, match="already"):
        evaluation.take(bytes(size - 16))


def test_inputs_of_the_wrong_shape_are_refused() -> None:
    circuit, delta = adder(), garbling.new_delta()
    labels = np.zeros((6, 2, 16), dtype=np.uint8)
    bits = to_bits(np.zeros(2, dtype=np.uint64), 11)
    out = memoryview(bytearray(garbling.garbled_bytes(circuit, 2)))
    for bad_bits in (bits[:-1], bits[:, :1], bits | np.uint8(2)):
        with pytest.raises(ValueError, match=r"message|server_bits"):
            garbling.garble(circuit, labels, bad_bits, delta, garbling.new_start(), out)
    with pytest.raises(ValueError, match="client_zero_labels"):
        garbling.garble(circuit, labels[:5], bits, delta, garbling.new_start(), out)
