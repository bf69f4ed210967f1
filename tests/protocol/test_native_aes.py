"""AES-128 on every path of the native core, against published answers and against each other."""

import numpy as np
import pytest
from numpy.typing import NDArray

from autoprivacy.protocol import _native

PATHS = _native.aes_paths()

# key, plaintext, ciphertext: FIPS 197 appendix B and C.1; SP 800-38A F.1.1, first two blocks.
KNOWN_ANSWERS = [
    ("2b7e151628aed2a6abf7158809cf4f3c", "3243f6a8885a308d313198a2e0370734", "3925841d02dc09fbdc118597196a0b32"),
    ("000102030405060708090a0b0c0d0e0f", "00112233445566778899aabbccddeeff", "69c4e0d86a7b0430d8cdb78070b4c55a"),
    ("2b7e151628aed2a6abf7158809cf4f3c", "6bc1bee22e409f96e93d7e117393172a", "3ad77bb40d7a3660a89ecaf32466ef97"),
    ("2b7e151628aed2a6abf7158809cf4f3c", "ae2d8a571e03ac9c9eb76fac45af8e51", "f5d3d58503b9699de785895a96fdbaaf"),
]


def rows(*hexadecimal: str) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex("".join(hexadecimal)), dtype=np.uint8).reshape(-1, 16)


def random_rows(rng: np.random.Generator, count: int) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (count, 16), dtype=np.uint8)


@pytest.mark.parametrize("path", PATHS)
def test_published_answers(path: str) -> None:
    keys, plaintexts, ciphertexts = (rows(*column) for column in zip(*KNOWN_ANSWERS, strict=True))
    np.testing.assert_array_equal(_native.aes_encrypt(keys, plaintexts, path), ciphertexts)


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 300])
def test_paths_agree_for_any_number_of_blocks(count: int) -> None:
    rng = np.random.default_rng(count)
    keys, blocks = random_rows(rng, count), random_rows(rng, count)
    expected = _native.aes_encrypt(keys, blocks, "portable")
    for path in PATHS:
        np.testing.assert_array_equal(_native.aes_encrypt(keys, blocks, path), expected)


@pytest.mark.parametrize("path", PATHS)
def test_prg_is_counter_mode(path: str) -> None:
    seed, counter, size = bytes(range(16)), 2**32 - 3, 16 * 150 + 5
    blocks = np.zeros((151, 2), dtype="<u8")
    blocks[:, 0] = counter + np.arange(151)
    keys = np.tile(np.frombuffer(seed, dtype=np.uint8), (151, 1))
    expected = _native.aes_encrypt(keys, blocks.view(np.uint8), "portable").reshape(-1)[:size]
    np.testing.assert_array_equal(_native.prg(seed, size, counter, path), expected)
    np.testing.assert_array_equal(_native.prg_rows(keys[:3], size, counter, path), np.tile(expected, (3, 1)))


def test_prg_continues_where_its_counter_says() -> None:
    seed = bytes(range(16))
    whole = _native.prg(seed, 320)
    np.testing.assert_array_equal(np.concatenate([_native.prg(seed, 128), _native.prg(seed, 192, counter=8)]), whole)


def test_the_best_path_is_the_last_of_those_that_proved_themselves() -> None:
    assert PATHS[0] == "portable"
    assert _native.aes_path() == PATHS[-1]
    for path in {"aesni", "vaes256", "vaes512"} - set(PATHS):
        with pytest.raises(ValueError, match=f"path '{path}': this processor cannot take it; it has 'portable'"):
            _native.prg(bytes(16), 1, path=path)


def test_wrong_arguments_are_refused() -> None:
    good = np.zeros((2, 16), dtype=np.uint8)
    with pytest.raises(ValueError, match="blocks have 16 bytes"):
        _native.aes_encrypt(np.zeros((2, 15), dtype=np.uint8), good)
    with pytest.raises(ValueError, match="1 rows for 2 keys"):
        _native.aes_encrypt(good, good[:1])
    with pytest.raises(TypeError):
        _native.aes_encrypt(good.astype(np.float64), good)
    with pytest.raises(ValueError, match="use 'best'"):
        _native.prg(bytes(16), 1, path="fastest")
    with pytest.raises(ValueError, match="give 16"):
        _native.prg(bytes(15), 1)
    with pytest.raises(ValueError, match="fresh seed"):
        _native.prg(bytes(16), 64, counter=2**64 - 2)
    with pytest.raises(ValueError, match="fit in memory"):
        _native.prg_rows(good, 2**63)
