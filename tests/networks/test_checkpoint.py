import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from autoprivacy.common.errors import BadInput
from autoprivacy.networks import checkpoint
from autoprivacy.networks.checkpoint import TrainedNetwork
from autoprivacy.networks.data import Splits


@pytest.fixture
def stored(trained: TrainedNetwork, tmp_path: Path) -> Path:
    path = tmp_path / "net.json"
    checkpoint.save(trained, path)
    return path


def test_float_logits_are_those_of_torch(trained: TrainedNetwork, digits: Splits) -> None:
    w = {name: torch.from_numpy(values.copy()) for name, values in trained.weights.items()}
    x = torch.from_numpy(digits.search.x.copy())
    hidden = functional.relu(functional.conv2d(x, w["conv1.weight"], w["conv1.bias"], padding=1))
    hidden = functional.relu(functional.conv2d(hidden, w["conv2.weight"], w["conv2.bias"], stride=2, padding=1))
    logits = functional.linear(hidden.flatten(1), w["fc.weight"], w["fc.bias"])
    np.testing.assert_allclose(trained.run(digits.search.x), logits.numpy(), atol=1e-4)


def test_images_of_another_shape_are_refused(trained: TrainedNetwork) -> None:
    with pytest.raises(BadInput, match=r"takes \(N, 1, 8, 8\)"):
        trained.run(np.zeros((2, 8, 8), np.float32))


def test_a_stored_network_comes_back_whole(trained: TrainedNetwork, stored: Path) -> None:
    again = checkpoint.load(stored)
    assert again.network == trained.network
    assert again.training == trained.training
    assert again.hash == trained.hash
    for name, values in trained.weights.items():
        np.testing.assert_array_equal(again.weights[name], values)


def test_the_hash_is_of_the_values_and_not_of_the_file(trained: TrainedNetwork, stored: Path) -> None:
    np.savez_compressed(stored.with_suffix(".npz"), allow_pickle=False, **dict(reversed(list(trained.weights.items()))))
    assert checkpoint.load(stored).hash == trained.hash


def test_the_hash_tells_every_weight_apart(trained: TrainedNetwork) -> None:
    seen = {trained.hash}
    for name in trained.weights:
        changed = {key: values.copy() for key, values in trained.weights.items()}
        changed[name].flat[-1] = np.nextafter(changed[name].flat[-1], np.float32(9))
        seen.add(TrainedNetwork(trained.network, changed).hash)
    assert len(seen) == 1 + len(trained.weights)


def test_weights_cannot_change_after_they_were_checked(trained: TrainedNetwork) -> None:
    mine = {name: values.copy() for name, values in trained.weights.items()}
    held = TrainedNetwork(trained.network, mine)
    mine["fc.bias"][0] += 1
    assert held.hash == trained.hash
    with pytest.raises(ValueError, match="read-only"):
        held.weights["fc.bias"][0] = 1


def _json(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return damage


def _npz(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with np.load(path.with_suffix(".npz")) as archive:
            arrays = dict(archive)
        change(arrays)
        np.savez(path.with_suffix(".npz"), **arrays)

    return damage


def _truncated(keep: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        file = path.with_suffix(".npz")
        file.write_bytes(file.read_bytes()[:keep])

    return damage


def _lying_header(path: Path) -> None:
    # Claims 4 TB and holds 40 bytes: must be refused before anything of that size is allocated.
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }\n"
    member = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(40)
    _replace_member(path, "fc.bias.npy", member)


def _long_member(path: Path) -> None:
    with zipfile.ZipFile(path.with_suffix(".npz")) as archive:
        content = archive.read("fc.bias.npy")
    _replace_member(path, "fc.bias.npy", content + bytes(10_000_000))


def _short_member(path: Path) -> None:
    with zipfile.ZipFile(path.with_suffix(".npz")) as archive:
        content = archive.read("fc.bias.npy")
    _replace_member(path, "fc.bias.npy", content[:-1])


def _empty_member(path: Path) -> None:
    _replace_member(path, "fc.bias.npy", b"")


def _replace_member(path: Path, name: str, content: bytes) -> None:
    file = path.with_suffix(".npz")
    with zipfile.ZipFile(file) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, old in members.items():
            archive.writestr(each, content if each == name else old)


def _stored_by_lzma(path: Path) -> None:
    file = path.with_suffix(".npz")
    with zipfile.ZipFile(file) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        for each, content in members.items():
            archive.writestr(each, content)


def _twice_the_same(path: Path) -> None:
    with zipfile.ZipFile(path.with_suffix(".npz"), "a") as archive:
        content = archive.read("fc.bias.npy")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("fc.bias.npy", content)


@pytest.mark.parametrize(
    ("damage", "file", "reason"),
    [
        (lambda path: path.unlink(), "net.json", "cannot be read"),
        (lambda path: path.with_suffix(".npz").unlink(), "net.npz", "No such file"),
        (lambda path: path.write_text(""), "net.json", "JSON"),
        (lambda path: path.write_text(path.read_text()[:-40]), "net.json", "JSON"),
        (lambda path: path.write_text("[]"), "net.json", "document"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "net.json", "text"),
        (_json(lambda document: document.update(schema_version=1)), "net.json", "schema_version"),
        (_json(lambda document: document.pop("hash")), "net.json", "hash"),
        (_json(lambda document: document.update(hash="0" * 64)), "net.json", "hash"),
        (_json(lambda document: document.update(made_by="me")), "net.json", "made_by"),
        (_json(lambda document: document["network"].update(name="other")), "net.json", "hash"),  # type: ignore[attr-defined]  # JSON
        (_json(lambda document: document["network"]["layers"][0].update(padding=[0] * 4)), "net.npz", "fc.weight"),  # type: ignore[index]  # JSON
        (_json(lambda document: document["network"]["layers"][0].update(padding=[5] * 4)), "net.json", "conv1"),  # type: ignore[index]  # JSON
        (_json(lambda document: document["network"]["layers"].pop()), "net.json", "hash"),  # type: ignore[index]  # JSON
        (_truncated(0), "net.npz", "whole"),
        (_truncated(300), "net.npz", "whole"),
        (_truncated(16_000), "net.npz", "whole"),
        (lambda path: path.with_suffix(".npz").write_text("weights"), "net.npz", "whole"),
        (_npz(lambda arrays: arrays.pop("conv2.bias")), "net.npz", "'conv2.bias' is missing"),
        (_npz(lambda arrays: arrays.update({"fc.bias": np.zeros(9, np.float32)})), "net.npz", "shape (9,)"),
        (_npz(lambda arrays: arrays.update({"fc.bias": np.float32(0)})), "net.npz", "fc.bias"),  # type: ignore[dict-item]  # a scalar on purpose
        (_npz(lambda arrays: arrays.update({"fc.bias": np.zeros(10)})), "net.npz", "float32"),
        (_npz(lambda arrays: arrays.update({"fc.bias": np.array([None] * 10)})), "net.npz", "fc.bias"),
        (_npz(lambda arrays: arrays.update({"fc.bias": arrays["fc.bias"] * np.float32("nan")})), "net.npz", "finite"),
        (_npz(lambda arrays: arrays.update({"fc.bias": arrays["fc.bias"] * 2})), "net.json", "hash"),
        (_lying_header, "net.npz", "shape (1000000000000,)"),
        (_long_member, "net.npz", "40 bytes"),
        (_short_member, "net.npz", "40 bytes"),
        (_empty_member, "net.npz", "whole"),
        (_stored_by_lzma, "net.npz", "compressed"),
        (_twice_the_same, "net.npz", "one name"),
    ],
)
def test_a_damaged_checkpoint_is_one_line_that_names_file_and_fault(
    stored: Path, damage: Callable[[Path], None], file: str, reason: str
) -> None:
    damage(stored)
    with pytest.raises(BadInput) as caught:
        checkpoint.load(stored)
    message = str(caught.value)
    assert message.startswith(str(stored.with_name(file)))
    assert message.count(str(stored.parent)) == 1
    assert reason in message
    assert "\n" not in message


def test_neither_another_array_nor_the_order_in_memory_changes_a_network(trained: TrainedNetwork, stored: Path) -> None:
    _npz(lambda arrays: arrays.update(extra=np.zeros(1), **{"fc.weight": arrays["fc.weight"].T.copy().T}))(stored)
    assert checkpoint.load(stored).hash == trained.hash


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(data=st.data())
def test_whichever_byte_changes_the_weights_are_the_same_or_refused(
    stored: Path, trained: TrainedNetwork, data: st.DataObject
) -> None:
    suffix = data.draw(st.sampled_from([".json", ".npz"]))
    copy = stored.with_name("copy.json")
    for each in (".json", ".npz"):
        shutil.copyfile(stored.with_suffix(each), copy.with_suffix(each))
    content = bytearray(copy.with_suffix(suffix).read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    copy.with_suffix(suffix).write_bytes(content)
    try:
        assert checkpoint.load(copy).hash == trained.hash
    except BadInput as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize("name", ["net.npz", "net", "net.onnx"])
def test_a_checkpoint_is_named_by_its_json(trained: TrainedNetwork, tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match=r"\.json"):
        checkpoint.save(trained, tmp_path / name)
    with pytest.raises(BadInput, match=r"\.json"):
        checkpoint.load(tmp_path / name)
