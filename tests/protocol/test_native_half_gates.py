"""The native garbling kernel: equal bytes on every path, the formulas of the paper, refusal of what is malformed."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from autoprivacy.protocol import _native

AND, XOR, NOT = 0, 1, 2
GATES = np.array([[AND, 0, 1], [XOR, 2, 3], [NOT, 4, 4], [AND, 5, 0], [AND, 5, 3]], dtype=np.int32)
OUTPUTS = np.array([6, 7, 0], dtype=np.int32)
DELTA = bytes([0x81, *range(1, 16)])
START = bytes(range(100, 116))


def labels(instances: int, wires: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(instances).integers(0, 256, (wires, instances, 16), dtype=np.uint8)


def block(array: NDArray[np.uint8]) -> int:
    return int.from_bytes(array.tobytes(), "little")


def paper_hash(label: int, tweak: int) -> int:
    upper, lower = label >> 64, label & (2**64 - 1)
    sigma = (upper ^ lower) << 64 | upper
    key = np.frombuffer((int.from_bytes(START, "little") ^ tweak).to_bytes(16, "little"), dtype=np.uint8)
    text = np.frombuffer(sigma.to_bytes(16, "little"), dtype=np.uint8)
    return block(_native.aes_encrypt(key[None], text[None], "portable")) ^ sigma


def test_one_gate_follows_the_paper() -> None:
    """[ZRE15] figure 2 with [GKWWY20]'s hash, in Python integers, for all four pairs of colours."""
    instances = 4
    inputs = labels(instances, wires=2)
    inputs[:, :, 0] = inputs[:, :, 0] & 0xFE | np.array([[0, 0, 1, 1], [0, 1, 0, 1]], dtype=np.uint8)
    gate = np.array([[AND, 0, 1]], dtype=np.int32)
    tables, outputs = _native.garble(gate, inputs, np.array([2], dtype=np.int32), DELTA, START, "portable")
    delta = int.from_bytes(DELTA, "little")
    for i in range(instances):
        a, b = block(inputs[0, i]), block(inputs[1, i])
        g0, g1 = (paper_hash(label, 2 * i) for label in (a, a ^ delta))
        e0, e1 = (paper_hash(label, 2 * i + 1) for label in (b, b ^ delta))
        garbler = g0 ^ g1 ^ (b & 1) * delta
        evaluator = e0 ^ e1 ^ a
        zero = g0 ^ (a & 1) * garbler ^ e0 ^ (b & 1) * (evaluator ^ a)
        assert (block(tables[0, i, :16]), block(tables[0, i, 16:])) == (garbler, evaluator)
        assert block(outputs[0, i]) == zero


@pytest.mark.skipif(_native.aes_path() != "aesni", reason="this processor has one path only")
@pytest.mark.parametrize("instances", [0, 1, 3, 63, 64, 65, 131])
def test_paths_give_the_same_bytes(instances: int) -> None:
    inputs = labels(instances)
    garbled = [_native.garble(GATES, inputs, OUTPUTS, DELTA, START, path) for path in ("portable", "aesni")]
    np.testing.assert_array_equal(garbled[0][0], garbled[1][0])
    np.testing.assert_array_equal(garbled[0][1], garbled[1][1])
    active = inputs.copy()
    active[1] ^= np.frombuffer(DELTA, dtype=np.uint8)
    portable, aesni = (
        _native.evaluate(GATES, active, OUTPUTS, garbled[0][0], START, path) for path in ("portable", "aesni")
    )
    np.testing.assert_array_equal(portable, aesni)


def test_equal_labels_and_gates_still_get_different_tables() -> None:
    """Tweaks tell instances and gates apart, starts tell batches apart."""
    inputs = np.repeat(labels(1), 70, axis=1)
    gates = np.array([[AND, 0, 1], [AND, 0, 1]], dtype=np.int32)
    outputs = np.array([3], dtype=np.int32)
    first, _ = _native.garble(gates, inputs, outputs, DELTA, START)
    second, _ = _native.garble(gates, inputs, outputs, DELTA, bytes(16))
    halves = np.concatenate([first, second]).reshape(-1, 16)
    assert len(np.unique(halves, axis=0)) == len(halves)


def well_formed() -> dict[str, Any]:
    inputs = labels(2)
    tables, _ = _native.garble(GATES, inputs, OUTPUTS, DELTA, START)
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
        ({"input_labels": np.zeros((3, 3, 16), dtype=np.uint8)}, r"shape \(3, 2, 32\) given"),
        ({"tables": np.zeros((2, 2, 32), dtype=np.uint8)}, r"this circuit has \(3, 2, 32\)"),
        ({"tables": np.zeros((3, 2, 31), dtype=np.uint8)}, r"this circuit has \(3, 2, 32\)"),
        ({"start": bytes(15)}, "start: 15 bytes"),
    ],
)
def test_malformed_circuits_are_refused(changed: dict[str, Any], message: str) -> None:
    arguments = well_formed() | changed
    with pytest.raises(ValueError, match=message):
        _native.evaluate(**arguments)


def test_a_delta_without_colour_is_refused() -> None:
    with pytest.raises(ValueError, match="lowest bit is 0"):
        _native.garble(GATES, labels(1), OUTPUTS, bytes(16), START)


def test_a_batch_beyond_the_tweaks_is_refused() -> None:
    """2^16 gates times 2^15 instances would be exactly 2^32 tweaks; one more instance is refused before any work."""
    gates = np.zeros((2**16, 3), dtype=np.int32)
    inputs = np.zeros((1, 2**15 + 1, 16), dtype=np.uint8)
    with pytest.raises(ValueError, match="fresh start"):
        _native.garble(gates, inputs, np.array([0], dtype=np.int32), DELTA, START)
    # One instance fewer fits: what is refused then is the shape of the tables.
    with pytest.raises(ValueError, match="shape"):
        _native.evaluate(
            gates, inputs[:, : 2**15].copy(), np.array([0], dtype=np.int32), np.zeros((0, 0, 32), dtype=np.uint8), START
        )
