"""`networks` and `train`: what they show and record, and one line, with nothing written, for whatever is wrong."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from autoprivacy.cli.main import main
from autoprivacy.networks.npz import write_npz
from tests.networks.onnx_files import FC, Arrays, floats, model, node

Run = Callable[..., tuple[int, str, str]]

RNG = np.random.default_rng(0)
MEANS: Arrays = {"k": floats(3, 1, 2, 2), "w": floats(3, 3)}
FILES = {
    "net.onnx": model([node("Gemm", "x w b", "g"), node("Softmax", "g", "y", axis=1)], ("n", 18), FC),
    "views.onnx": model([node("Flatten", "x", "f"), node("Relu", "f", "y")], ("n", 1, 1, 18)),
    "means.onnx": model(
        [
            *(node("Conv", "x k", "c"), node("GlobalAveragePool", "c", "m"), node("GlobalMaxPool", "c", "n")),
            *(node("Add", "m n", "a"), node("Flatten", "a", "f"), node("Gemm", "f w", "y")),
        ],
        ("n", 1, 4, 4),
        MEANS,
    ),
}
IMAGES = RNG.random((300, 1, 1, 18), dtype=np.float32)
LABELS = RNG.integers(0, 3, 300)
DATA: dict[str, dict[str, NDArray[Any]]] = {
    "data.npz": {"x": IMAGES, "y": LABELS},
    "squares.npz": {"x": RNG.random((300, 1, 4, 4), dtype=np.float32), "y": LABELS},
    "few.npz": {"x": IMAGES[:199], "y": LABELS[:199]},
    "unlabelled.npz": {"x": IMAGES},
    "unmatched.npz": {"x": IMAGES, "y": LABELS[:-1]},
    "classes.npz": {"x": IMAGES, "y": LABELS + 1},
    "infinite.npz": {"x": np.full_like(IMAGES, np.inf), "y": LABELS},
    "pixels.npz": {"x": (IMAGES * 255).astype(np.uint8), "y": LABELS},
    "others.npz": {"images": IMAGES},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with networks and data, right ones and wrong ones, and an empty cache."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("AUTOPRIVACY_DATA", str(tmp_path / "cache"))
    for name, made in FILES.items():
        (work / name).write_bytes(made.SerializeToString())
    for name, arrays in DATA.items():
        write_npz(work / name, arrays)
    np.savez(work / "objects.npz", x=np.array([None] * 300), y=LABELS)
    (work / "cut.npz").write_bytes((work / "data.npz").read_bytes()[:1000])
    (work / "text.onnx").write_text("a network\n")
    (work / "text.json").write_text("a network\n")
    (work / "folder.json").mkdir()
    (work / "file").touch()
    return work


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> Run:
    """Run the command in this process: its exit code, standard output and standard error."""
    assert folder.exists()

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["autoprivacy", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), *capsys.readouterr()

    return command


TO = ("--out", "out.json")
WRONG = {
    ("networks", "show", "nothing.onnx"): "nothing.onnx: cannot be read",
    ("networks", "show", "text.onnx"): "text.onnx: not a whole ONNX file",
    ("networks", "show", "text.json"): "text.json: field 'document': Invalid JSON",
    ("networks", "show", "folder.json"): "folder.json: cannot be read (Is a directory)",
    ("networks", "show", "x" * 300 + ".onnx"): "cannot be read (File name too long)",
    ("networks", "show", "x" * 5000 + ".json"): "cannot be read (File name too long)",
    ("networks", "show", "data.npz"): "no network is called 'data.npz'",
    ("networks", "show", ""): "no network is called ''",
    ("networks", "show", "\n\x1b[31m.onnx"): "??[31m.onnx: cannot be read",
    ("networks", "show", "\udcff.onnx"): "?.onnx: cannot be read",
    ("networks", "show", "lenet5", "minionn"): "unexpected extra argument",
    ("networks", "list", "--all"): "No such option: --all",
    ("train", "digits-cnn"): "Missing option '--out'",
    ("train", "net.onnx", *TO): "give your own images by --data FILE.npz",
    ("train", "minionn", *TO): "run `autoprivacy data fetch cifar10` first",
    ("train", "net.onnx", "--out", "data.json", "--data", "data.npz"): "and would be overwritten",
    ("train", "text.onnx", *TO, "--data", "data.npz"): "not a whole ONNX file",
    ("train", "views.onnx", *TO, "--data", "data.npz"): "no linear layer",
    ("train", "means.onnx", *TO, "--data", "squares.npz"): "it adds means over windows of different sizes",
    ("train", "net.onnx", *TO, "--data", "nothing.npz"): "nothing.npz: not a whole .npz file",
    ("train", "net.onnx", *TO, "--data", "folder.json"): "folder.json: not a whole .npz file",
    ("train", "net.onnx", *TO, "--data", "cut.npz"): "cut.npz: not a whole .npz file",
    ("train", "net.onnx", *TO, "--data", "net.onnx"): "net.onnx: not a whole .npz file",
    ("train", "net.onnx", *TO, "--data", "few.npz"): "holds 199 images; at least 200",
    ("train", "net.onnx", *TO, "--data", "squares.npz"): "images of shape (300, 1, 4, 4) given",
    ("train", "net.onnx", *TO, "--data", "unlabelled.npz"): "holds no labels",
    ("train", "net.onnx", *TO, "--data", "unmatched.npz"): "300 images, but 299 labels",
    ("train", "net.onnx", *TO, "--data", "classes.npz"): "labels go from 1 to 3; the network's classes are 0 to 2",
    ("train", "net.onnx", *TO, "--data", "infinite.npz"): "not finite",
    ("train", "net.onnx", *TO, "--data", "objects.npz"): "not stored as plain numbers",
    ("train", "net.onnx", *TO, "--data", "pixels.npz"): "array 'x' is uint8; it must be floats",
    ("train", "net.onnx", *TO, "--data", "others.npz"): "holds no array 'x'",
    ("train", "net.onnx", "--out", "out", "--data", "data.npz"): "named by its .json file",
    ("train", "net.onnx", "--out", "out.npz", "--data", "data.npz"): "named by its .json file",
    ("train", "net.onnx", "--out", "folder.json", "--data", "data.npz"): "folder.json: is a folder",
    ("train", "net.onnx", "--out", "file/out.json", "--data", "data.npz"): "file/out.json: cannot be written",
    ("train", "net.onnx", "--out", "/proc/out.json", "--data", "data.npz"): "/proc/out.json: cannot be written",
    ("train", "net.onnx", "--out", "x" * 300 + ".json", "--data", "data.npz"): "cannot be written",
    ("train", "digits-cnn", *TO, "--seed", "-1"): "--seed",
    ("train", "digits-cnn", *TO, "--seed", "one"): "--seed",
    ("train", "digits-cnn", *TO, "--float-epochs", "-1"): "--float-epochs",
    ("train", "digits-cnn", *TO, "--any-precision-epochs", "0.5"): "--any-precision-epochs",
    ("train", "digits-cnn", *TO, "--half-precision=yes"): "--half-precision",
}


@pytest.mark.parametrize("arguments", WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_one_line_and_nothing_is_written(run: Run, folder: Path, arguments: tuple[str, ...]) -> None:
    before = {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()}
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("autoprivacy: ")
    assert len(err.splitlines()) == 1
    assert WRONG[arguments] in err
    assert {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()} == before


def test_a_file_is_shown_with_what_was_left_out_of_it(run: Run) -> None:
    code, out, err = run("networks", "show", "net.onnx", "--json")
    assert code == 0
    assert [layer["kind"] for layer in json.loads(out)["layers"]] == ["flatten", "linear"]
    assert err.splitlines() == [
        "note: its input has the shape (18,) per image: the network takes (1, 1, 18)",
        "note: the softmax 'the_y' at the end is left out: the network gives logits",
    ]
    code, out, _ = run("networks", "show", "net.onnx")
    assert code == 0
    assert "no accuracy is recorded" in out


def test_an_untrained_network_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprivacy.networks.zoo.is_trained", lambda _: False)
    code, _, err = run("networks", "show", "lenet5")
    assert code == 0
    assert err.startswith("note: lenet5 is untrained: its weights are random")


@pytest.mark.parametrize("half_precision", [False, True])
def test_training_records_how_it_was_done(run: Run, folder: Path, *, half_precision: bool) -> None:
    flags = ["--half-precision"] * half_precision
    arguments = ("--data", "data.npz", "--any-precision-epochs", "1", "--seed", "7", *flags)
    code, out, _ = run("train", "net.onnx", "--out", "new/out.json", *arguments, "--json")
    assert code == 0
    training = json.loads(out)["training"]
    assert training["schedule"]["half_precision"] is half_precision
    words = ["autoprivacy", "train", "net.onnx", "--seed", "7", "--data", "data.npz", "--float-epochs", "0"]
    assert training["command"].split() == [*words, "--any-precision-epochs", "1", *flags]
    assert sorted(path.name for path in (folder / "new").iterdir()) == ["out.json", "out.npz"]
    assert json.loads(run("networks", "show", "new/out.json", "--json")[1])["training"] == training


def test_ctrl_c_keeps_what_was_reached_and_no_checkpoint(folder: Path) -> None:
    arguments = ["train", "net.onnx", "--out", "out.json", "--data", "data.npz", "--any-precision-epochs", "100000"]
    command = [sys.executable, "-m", "autoprivacy.cli.main", *arguments]
    state = folder / "out.training.npz"
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not state.exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said, complained = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "")
    assert complained.strip().splitlines()[-1] == "autoprivacy: interrupted; what was finished is kept"
    assert "Traceback" not in complained
    assert state.exists()
    assert not [path.name for path in folder.iterdir() if path.name.startswith((".out", "out.json", "out.npz"))]
