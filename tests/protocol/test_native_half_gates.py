"""The native garbling kernel: equal bytes on every path, the formulas of the paper, refusal of what is malformed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from autoprivacy.protocol import _native

AND, XOR, NOT = 0, 1, 2
GATES = np.array([[AND, 0, 1], [XOR, 2, 3], [NOT, 4, 4], [AND, 5, 0], [AND, 5, 3]], dtype=np.int32)
OUTPUTS = np.array([6, 7, 0], dtype=np.int32)
CLIENTS = np.zeros(3, dtype=np.bool_)
PATHS = _native.aes_paths()
HASHES = ["rekeyed", "tmmo"]
DELTA = bytes([0x81, *range(1, 16)])
START = bytes(range(100, 116))


def labels(instances: int, wires: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(instances).integers(0, 256, (wires, instances, 16), dtype=np.uint8)


def block(array: NDArray[np.uint8]) -> int:
    return int.from_bytes(array.tobytes(), "little")


def aes(key: int, text: int) -> int:
    keys, texts = (np.frombuffer(number.to_bytes(16, "little"), dtype=np.uint8)[None] for number in (key, text))
    return block(_native.aes_encrypt(keys, texts, "portable"))


def rekeyed(label: int, tweak: int) -> int:
    upper, lower = label >> 64, label & (2**64 - 1)
    sigma = (upper ^ lower) << 64 | upper
    return aes(int.from_bytes(START, "little") ^ tweak, sigma) ^ sigma


def tmmo(label: int, tweak: int) -> int:
    start = int.from_bytes(START, "little")
    return aes(start, aes(start, label) ^ tweak) ^ aes(start, label)


def program(gates: NDArray[np.int32] = GATES, outputs: NDArray[np.int32] = OUTPUTS, inputs: int = 3) -> _native.Program:
    return _native.Program(gates, np.zeros(inputs, dtype=np.bool_), outputs)


@pytest.mark.parametrize("hash_", [rekeyed, tmmo])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("first_row", [0, 1000, 2**31 - 4])
def test_one_gate_follows_the_papers(hash_: Callable[[int, int], int], path: str, first_row: int) -> None:
    """[ZRE15] figure 2 with the hash of either paper, in Python integers, for all four pairs of colours."""
    instances = 4
    inputs = labels(instances, wires=2)
    inputs[:, :, 0] = inputs[:, :, 0] & 0xFE | np.array([[0, 0, 1, 1], [0, 1, 0, 1]], dtype=np.uint8)
    gate = program(np.array([[AND, 0, 1]], dtype=np.int32), np.array([2], dtype=np.int32), 2)
    tables, outputs = gate.garble(inputs, DELTA, START, first_row, hash_.__name__, path)
    delta = int.from_bytes(DELTA, "little")
    for i in range(instances):
        a, b, tweak = block(inputs[0, i]), block(inputs[1, i]), 2 * (first_row + i)
        g0, g1 = (hash_(label, tweak) for label in (a, a ^ delta))
        e0, e1 = (hash_(label, tweak + 1) for label in (b, b ^ delta))
        garbler = g0 ^ g1 ^ (b & 1) * delta
        evaluator = e0 ^ e1 ^ a
        zero = g0 ^ (a & 1) * garbler ^ e0 ^ (b & 1) * (evaluator ^ a)
        assert (block(tables[i, :16]), block(tables[i, 16:])) == (garbler, evaluator)
        assert block(outputs[0, i]) == zero


@pytest.mark.parametrize("hash_", HASHES)
@pytest.mark.parametrize("instances", [0, 1, 3, 63, 64, 65, 131])
def test_paths_give_the_same_bytes(instances: int, hash_: str) -> None:
    inputs, circuit = labels(instances), program()
    active = inputs.copy()
    active[1] ^= np.frombuffer(DELTA, dtype=np.uint8)
    tables, zero = circuit.garble(inputs, DELTA, START, 5, hash_, "portable")
    expected = circuit.evaluate(active, tables, START, 5, hash_, "portable")
    assert set(np.unique((expected ^ zero).reshape(-1, 16), axis=0)[:, 1].tolist()) <= {0, DELTA[1]}
    for path in PATHS:
        for made, right in zip(circuit.garble(inputs, DELTA, START, 5, hash_, path), (tables, zero), strict=True):
            np.testing.assert_array_equal(made, right)
        np.testing.assert_array_equal(circuit.evaluate(active, tables, START, 5, hash_, path), expected)


@st.composite
def circuits(draw: st.DrawFn) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
    inputs, gates = draw(st.integers(1, 5)), list[tuple[int, int, int]]()
    for _ in range(draw(st.integers(0, 40))):
        wire = st.integers(0, inputs + len(gates) - 1)
        gates.append((draw(st.integers(0, 2)), draw(wire), draw(wire)))
    outputs = draw(st.lists(st.integers(0, inputs + len(gates) - 1), min_size=1, max_size=6))
    return np.array(gates, dtype=np.int32).reshape(-1, 3), np.array(outputs, dtype=np.int32), inputs


@settings(deadline=None)
@given(circuit=circuits(), instances=st.integers(1, 140), hash_=st.sampled_from(HASHES))
def test_any_circuit_gives_the_same_bytes_on_every_path_and_computes_what_it_says(
    circuit: tuple[NDArray[np.int32], NDArray[np.int32], int], instances: int, hash_: str
) -> None:
    """Preparation fuses gates and reuses places: whatever it does, the labels are those of the gates one by one."""
    gates, outputs, inputs = circuit
    prepared, zero = program(gates, outputs, inputs), labels(instances, inputs)
    bits = np.random.default_rng(instances).integers(0, 2, (inputs, instances), dtype=np.uint8)
    active = zero ^ bits[:, :, None] * np.frombuffer(DELTA, dtype=np.uint8)
    tables, out_zero = prepared.garble(zero, DELTA, START, hash=hash_, path="portable")
    assert len(tables) == np.count_nonzero(gates[:, 0] == AND) * instances
    wires = list(bits)
    for operation, a, b in gates.tolist():
        wires.append(wires[a] & wires[b] if operation == AND else wires[a] ^ (wires[b] if operation == XOR else 1))
    expected = np.stack([wires[wire] for wire in outputs.tolist()])[:, :, None] * np.frombuffer(DELTA, dtype=np.uint8)
    for path in PATHS:
        made = prepared.garble(zero, DELTA, START, hash=hash_, path=path)
        np.testing.assert_array_equal(made[0], tables)
        np.testing.assert_array_equal(made[1], out_zero)
        got = prepared.evaluate(active, tables, START, hash=hash_, path=path)
        np.testing.assert_array_equal(got ^ out_zero, expected)


@pytest.mark.parametrize("path", PATHS)
def test_equal_labels_and_gates_still_get_different_tables(path: str) -> None:
    """Tweaks tell instances, gates and rows apart, starts tell batches apart."""
    inputs = np.repeat(labels(1), 150, axis=1)[:2].copy()
    circuit = program(np.array([[AND, 0, 1], [AND, 0, 1]], dtype=np.int32), np.array([3], dtype=np.int32), 2)
    made = [
        circuit.garble(inputs, DELTA, start, row, "rekeyed", path)[0]
        for start, row in [(START, 0), (START, 300), (bytes(16), 0)]
    ]
    halves = np.concatenate(made).reshape(-1, 16)
    assert len(np.unique(halves, axis=0)) == len(halves)


def well_formed() -> dict[str, Any]:
    inputs = labels(2)
    tables, _ = program().garble(inputs, DELTA, START)
    return {"gates": GATES, "input_labels": inputs, "outputs": OUTPUTS, "tables": tables, "start": START}


def gates_with(row: int, column: int, value: int) -> NDArray[np.int32]:
    changed = GATES.copy()
    changed[row, column] = value
    return changed


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"gates": gates_with(0, 0, 3)}, "gate 0: operation 3"),
        ({"gates": gates_with(0, 0, -1)}, "gate 0: operation -1"),
        ({"gates": gates_with(1, 1, 4)}, "gate 1: reads wires 4 and 3"),
        ({"gates": gates_with(1, 2, -1)}, "gate 1: reads wires 2 and -1"),
        ({"gates": gates_with(2, 2, 5)}, "only 0 to 4 exist yet"),
        ({"gates": GATES[:, :2].copy()}, "2 columns"),
        ({"outputs": np.array([8], dtype=np.int32)}, "wire 8 does not exist"),
        ({"outputs": np.array([-1], dtype=np.int32)}, "wire -1 does not exist"),
        ({"input_labels": np.zeros((3, 2, 15), dtype=np.uint8)}, "blocks have 16 bytes"),
        ({"input_labels": np.zeros((2, 2, 16), dtype=np.uint8)}, "2 wires given; the circuit has 3"),
        ({"input_labels": np.zeros((3, 3, 16), dtype=np.uint8)}, r"shape \(6, 32\) given"),
        ({"tables": np.zeros((5, 32), dtype=np.uint8)}, r"this batch has \(6, 32\)"),
        ({"tables": np.zeros((6, 31), dtype=np.uint8)}, r"this batch has \(6, 32\)"),
        ({"path": "best", "hash": "md5"}, "use 'rekeyed' or 'tmmo'"),
        ({"start": bytes(15)}, "start: 15 bytes"),
    ],
)
def test_malformed_circuits_are_refused(changed: dict[str, Any], message: str) -> None:
    arguments = well_formed() | changed
    circuit = (arguments.pop("gates"), CLIENTS, arguments.pop("outputs"))
    with pytest.raises(ValueError, match=message):
        _native.Program(*circuit).evaluate(**arguments)


def test_a_delta_without_colour_is_refused() -> None:
    with pytest.raises(ValueError, match="lowest bit is 0"):
        program().garble(labels(1), bytes(16), START)


def test_a_batch_beyond_the_tweaks_is_refused() -> None:
    """2^16 gates times 2^15 instances would be exactly 2^32 tweaks; one more row is refused before any work."""
    circuit = program(np.zeros((2**16, 3), dtype=np.int32), np.array([0], dtype=np.int32), 1)
    for instances, first_row in [(2**15 + 1, 0), (2**15, 1)]:
        with pytest.raises(ValueError, match="fresh start"):
            circuit.garble(np.zeros((1, instances, 16), dtype=np.uint8), DELTA, START, first_row)
    # One instance fewer fits: what is refused then is the shape of the tables.
    with pytest.raises(ValueError, match="shape"):
        circuit.evaluate(np.zeros((1, 2**15, 16), dtype=np.uint8), np.zeros((0, 32), dtype=np.uint8), START)


@pytest.mark.parametrize(
    ("first", "count", "message"),
    [
        (0, 63, "whole stripes"),
        (1, 64, "whole stripes"),
        (64, 67, "after the last"),
        (64, 64, "whole stripes|bytes given"),
    ],
)
def test_pieces_are_whole_stripes_of_the_batch(first: int, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        program().garble_piece(
            np.zeros(0, dtype=np.uint8),
            labels(130),
            np.zeros((0, 130), dtype=np.uint8),
            first,
            count,
            DELTA,
            START,
            bytes(16),
        )
