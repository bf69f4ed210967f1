import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from autoprivacy.agent.confirmed import Confirmation
from autoprivacy.cli.documents import DOCUMENTS, file_of, schema_of
from autoprivacy.cli.main import main
from autoprivacy.common.records import load, parse, save
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.models.latency_report import LatencyReport
from autoprivacy.models.machine_model import MachineModel
from autoprivacy.profiler.machine import describe_software
from autoprivacy.protocol.policy import Policy
from autoprivacy.protocol.seal_parameters import SealExport
from autoprivacy.protocol.transport import new_key
from tests import synthetic
from tests.models.deployed import write_machine

Run = Callable[..., tuple[int, str, str]]

COMMANDS = (
    *(
        "networks list",
        "networks show",
        "data list",
        "data fetch",
        "train",
        "profile",
        "profiles list",
        *(f"profiles {verb}" for verb in ("show", "check", "compare", "export", "import")),
        "fit",
        "predict",
        "compare",
    ),
    *("search", "sweep", "policy show", "policy export"),
    *("key new", "certificate new", "serve", "infer", "confirm", "tune", "report"),
)
SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: its exit code, standard output and standard error."""

    def command(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["autoprivacy", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        if "--json" in arguments and code in {0, 4}:
            check_document(out, *map(str, arguments[:2]))
        return code, out, err

    return command


def check_document(out: str, *arguments: str) -> None:
    """What a command printed is one document that its schema in docs/schemas allows."""
    command = next(" ".join(arguments[:words]) for words in (2, 1) if " ".join(arguments[:words]) in DOCUMENTS)
    schema = json.loads(file_of(command, SCHEMAS).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(json.loads(out))


@pytest.fixture
def refused(run: Run) -> Callable[..., str]:
    """Run a command that must end with one line on standard error and exit code 2; gives the line."""

    def command(*arguments: str | Path) -> str:
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1, err
        assert err.startswith("autoprivacy: ")
        return err

    return command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, with no profile to be found from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTOPRIVACY_PROFILES", str(tmp_path / "profiles"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def policy_file(folder: Path, policy: Policy) -> Path:
    save(policy, folder / "policy.json")
    return folder / "policy.json"


@pytest.fixture
def key_file(folder: Path) -> Path:
    new_key(folder / "key")
    return folder / "key"


@pytest.fixture
def image(folder: Path) -> Path:
    np.save(folder / "image.npy", np.zeros((1, 8, 8), np.float32))
    return folder / "image.npy"


@pytest.fixture
def profile(folder: Path) -> Path:
    """A profile of this software."""
    made = synthetic.profile()
    header = replace(made.header, software=describe_software())
    machine_profile.write(replace(made, header=header), folder / "profiles" / "mine")
    return folder / "profiles" / "mine"


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.parametrize("arguments", ["", "serve", "networks"])
def test_help_imports_nothing_heavy(arguments: str) -> None:
    script = (
        "import sys; from autoprivacy.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'sklearn', 'seal', 'scipy', 'pandas', 'xgboost', 'numpy'} & set(sys.modules)\n"
        "sys.exit(' '.join(sorted(heavy)) or 0)"
    )
    command = [sys.executable, "-c", script, *arguments.split(), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage" in done.stdout


def test_a_wrong_command_ends_the_process_with_one_line() -> None:
    command = [sys.executable, "-m", "autoprivacy.cli.main", "frobnicate"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run: Run, command: str) -> None:
    code, out, err = run(*command.split(), "--help")
    assert (code, err) == (0, "")
    assert f"autoprivacy {command}" in " ".join(out.split())


@pytest.mark.parametrize("command", DOCUMENTS)
def test_every_document_has_a_schema_that_names_its_fields(command: str) -> None:
    kept = json.loads(file_of(command, SCHEMAS).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(kept)
    made = schema_of(command)
    for definition, fields in made.get("$defs", {}).items():
        assert set(fields.get("properties", ())) == set(kept["$defs"].get(definition, {}).get("properties", ())), (
            f"{definition} changed; run `python -m autoprivacy.cli.documents docs/schemas`"
        )


@pytest.mark.parametrize("group", [(), ("networks",), ("profiles",), ("policy",), ("key",), ("certificate",)])
def test_a_command_without_arguments_shows_its_help(run: Run, group: tuple[str, ...]) -> None:
    code, out, err = run(*group)
    assert code == 2
    assert "Usage" in out + err
    assert "Traceback" not in out + err


def test_networks_list_is_one_json_document(run: Run) -> None:
    code, out, _ = run("networks", "list", "--json")
    assert code == 0
    listed = {each["name"]: each for each in json.loads(out)}
    assert listed["digits-cnn"]["trained"] is True
    assert listed["resnet32"]["total"]["relus"] == 11 * 16 * 32**2 + 10 * 32 * 16**2 + 10 * 64 * 8**2


def test_networks_show_is_one_json_document(run: Run) -> None:
    code, out, _ = run("networks", "show", "digits-cnn", "--json")
    assert code == 0
    document = json.loads(out)
    assert [layer["name"] for layer in document["layers"] if layer["parameters"]] == ["conv1", "conv2", "fc"]
    # 8 filters of 3x3 on one channel over 8x8, 16 of 3x3 on 8 over 4x4, 10 outputs of 256 inputs.
    assert [layer["multiply_accumulates"] for layer in document["layers"] if layer["parameters"]] == [4608, 18432, 2560]


def test_networks_show_is_a_table(run: Run) -> None:
    code, out, _ = run("networks", "show", "digits-cnn")
    assert code == 0
    assert "conv2" in out
    assert "18,432" in out


def test_policy_show_is_the_policy(run: Run, policy_file: Path) -> None:
    code, out, _ = run("policy", "show", policy_file, "--json")
    assert code == 0
    assert json.loads(out) == json.loads(policy_file.read_text(encoding="utf-8"))
    assert run("policy", "show", policy_file)[0] == 0


@pytest.mark.usefixtures("profile")
def test_profiles_are_listed_shown_and_fitted(run: Run) -> None:
    for arguments, name in (
        (("profiles", "list"), "machines"),
        (("profiles", "show", "mine"), "header"),
        (("fit", "mine"), "operations"),
    ):
        code, out, err = run(*arguments, "--json")
        assert (code, err) == (0, "")
        assert json.loads(out)[name]
        assert run(*arguments)[0] == 0


@pytest.mark.usefixtures("profile")
def test_predict_gives_one_json_document(run: Run, policy_file: Path) -> None:
    arguments = ("predict", "digits-cnn", "--policy", policy_file, "--server", "mine", "--client", "mine")
    code, out, err = run(*arguments, "--json")
    assert (code, err) == (0, "")
    prediction = parse(LatencyReport, out, source="predict").estimates[0].prediction
    assert 0 < prediction.low_s <= prediction.latency_s <= prediction.high_s
    assert run(*arguments)[0] == 0


@pytest.mark.usefixtures("profile")
def test_policies_are_compared_over_deployments(run: Run, folder: Path, policy_file: Path) -> None:
    other = folder / "other.json"
    other.write_bytes(policy_file.read_bytes())
    arguments = ("compare", "digits-cnn", "--policies", policy_file, other, "--deployments", "mine,mine")
    code, out, err = run(*arguments, "mine,mine,loopback", "--html", folder / "page.html", "--json")
    assert code == 0
    assert "page.html" in err
    comparison = parse(LatencyReport, out, source="compare").comparison
    assert comparison is not None
    assert comparison.policies == ("policy", "other")
    assert [len(row) for row in comparison.latency_s] == [2, 2]
    assert (folder / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    code, out, _ = run(*arguments)
    assert code == 0
    assert "* best" in out


@pytest.mark.usefixtures("profile")
def test_deployments_that_do_not_pair_up_are_refused(refused: Callable[..., str], policy_file: Path) -> None:
    machines = ("--server", "mine", "--server", "mine", "--client", "mine", "--client", "mine", "--client", "mine")
    assert "2 servers, 3 clients" in refused("predict", "digits-cnn", "--policy", policy_file, *machines)
    words = refused("compare", "digits-cnn", "--policies", policy_file, "--deployments", "mine")
    assert "SERVER,CLIENT" in words
    one = ("--server", "mine", "--client", "mine")
    assert "nowhere" in refused("predict", "digits-cnn", "--policy", policy_file, *one, "--link", "nowhere")


@pytest.mark.usefixtures("profile")
def test_a_fit_is_stored_and_exported(run: Run, folder: Path) -> None:
    code, out, _ = run("fit", "mine", "--out", folder / "model.json", "--export-csv", folder / "costs.csv")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100
    assert load(MachineModel, folder / "model.json").profile_name == "synthetic"
    assert (folder / "costs.csv").read_text(encoding="utf-8").startswith("operation,")
    code, out, err = run("fit", "mine", "--export-heir", folder / "heir.json")
    assert (code, len(err.splitlines())) == (3, 1)
    assert "several limbs" in err
    assert not (folder / "heir.json").exists()


def test_policy_export_is_what_seal_takes(run: Run, policy_file: Path, policy: Policy) -> None:
    code, out, _ = run("policy", "export", policy_file, "--json")
    assert code == 0
    layers = parse(SealExport, out, source="export").layers
    assert [layer.layer for layer in layers] == list(policy.layers)
    code, out, _ = run("policy", "export", policy_file)
    assert code == 0
    for layer in policy.layers.values():
        assert str(layer.limbs[0]) in out


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "arguments",
    [
        ("frobnicate",),
        ("networks", "frobnicate"),
        ("networks", "show"),
        ("networks", "list", "--frobnicate"),
        ("infer",),
        ("serve", "digits-cnn"),
        ("tune", "digits-cnn", "--images", "0"),
        ("tune", "digits-cnn", "--images", "many"),
        ("tune", "digits-cnn", "--max-accuracy-drop", "1.5"),
        ("tune", "digits-cnn", "--seed", "-1"),
        ("tune", "digits-cnn", "--confirm", "0"),
        ("tune", "digits-cnn", "--depth", "deep"),
        ("tune", "digits-cnn", "--serving", "127.0.0.1:1"),
        ("report",),
        ("confirm", "digits-cnn", "--policy", "p.json", "--profile", "a", "--server", "b"),
        ("confirm", "digits-cnn", "--profile", "a"),
        ("--verbose",),
        ("search", "digits-cnn", "--server", "a", "--client", "b"),
    ],
)
def test_wrong_usage_is_one_line(refused: Callable[..., str], arguments: tuple[str, ...]) -> None:
    assert "--help" in refused(*arguments)


@pytest.mark.usefixtures("folder")
def test_an_unknown_network_lists_those_that_exist(refused: Callable[..., str], policy_file: Path) -> None:
    for arguments in (("networks", "show", "alexnet"), ("tune", "alexnet"), ("train", "alexnet", "--out", "x.json")):
        assert "digits-cnn" in refused(*arguments)
    refused("serve", "alexnet", "--policy", policy_file, "--key-file", policy_file)


def test_an_unknown_profile_is_named(refused: Callable[..., str], folder: Path, policy_file: Path) -> None:
    machines = ("--server", "nowhere", "--client", "nowhere")
    for arguments in (
        ("profiles", "show", "nowhere"),
        ("fit", "nowhere"),
        ("predict", "digits-cnn", "--policy", policy_file, *machines),
        ("search", "digits-cnn", *machines, "--out", folder / "out.json"),
        ("confirm", "digits-cnn", "--policy", policy_file, "--profile", "nowhere"),
        ("tune", "digits-cnn", "--profile", "nowhere"),
    ):
        assert "nowhere" in refused(*arguments)
    assert not (folder / "out.json").exists()


def test_a_missing_file_is_named(refused: Callable[..., str], folder: Path, policy_file: Path, key_file: Path) -> None:
    absent = folder / "absent.json"
    for arguments in (
        ("policy", "show", absent),
        ("networks", "show", absent),
        ("serve", "digits-cnn", "--policy", absent, "--key-file", key_file),
        ("serve", "digits-cnn", "--policy", policy_file, "--key-file", absent),
        ("infer", "--peer", "127.0.0.1:1", "--key-file", key_file, "--input", absent),
        ("predict", "digits-cnn", "--policy", absent, "--server", "a", "--client", "b"),
    ):
        assert "absent.json" in (line := refused(*arguments))
        assert "not an .npy file" not in line


@pytest.mark.parametrize(
    ("found", "put"),
    [
        ("{", ""),
        ("}", ""),
        ('"schema_version": 1', '"schema_version": 2'),
        ('"n": 2048', '"n": "2048"'),
        ('"packing"', '"password"'),
        ('"t": ', '"t": -'),
        ('"t": ', '"t": 1'),
        ('"height": ', '"height": 999'),
        ('"in_channels": ', '"in_channels": -'),
        ('"weight_bits": 8', '"weight_bits": 99'),
        ('"weight_bits": 8', '"weight_bits": 0'),
    ],
)
def test_a_corrupt_policy_is_named(
    refused: Callable[..., str], policy_file: Path, key_file: Path, found: str, put: str
) -> None:
    before = policy_file.read_text(encoding="utf-8")
    assert found in before
    policy_file.write_text(before.replace(found, put), encoding="utf-8")
    refused("serve", "digits-cnn", "--policy", policy_file, "--key-file", key_file, "--listen", "0.0.0.0:1")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"{}", b"null"])
def test_what_is_no_policy_is_named(refused: Callable[..., str], policy_file: Path, content: bytes) -> None:
    policy_file.write_bytes(content)
    assert "policy.json" in refused("policy", "show", policy_file)


def test_a_policy_of_another_network_is_refused(refused: Callable[..., str], policy_file: Path, key_file: Path) -> None:
    document = json.loads(policy_file.read_text(encoding="utf-8"))
    document["network_hash"] = "0" * 64
    policy_file.write_text(json.dumps(document), encoding="utf-8")
    line = refused("serve", "digits-cnn", "--policy", policy_file, "--key-file", key_file)
    assert "000000000000" in line


def test_an_insecure_policy_is_refused_as_such(run: Run, policy_file: Path, key_file: Path) -> None:
    text = policy_file.read_text(encoding="utf-8").replace('"n": 2048', '"n": 1024')
    policy_file.write_text(text, encoding="utf-8")
    code, out, err = run("serve", "digits-cnn", "--policy", policy_file, "--key-file", key_file)
    assert (code, out) == (3, "")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "address", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "example.org:1", "127.0.0.1", "127.0.0.1:x", ":1"]
)
def test_only_loopback_is_served(refused: Callable[..., str], policy_file: Path, key_file: Path, address: str) -> None:
    arguments = ("serve", "digits-cnn", "--policy", policy_file, "--key-file", key_file)
    refused(*arguments, "--listen", address)


def test_a_taken_port_is_named(refused: Callable[..., str], policy_file: Path, key_file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = refused("serve", "digits-cnn", "--policy", policy_file, "--key-file", key_file, "--listen", address)
    assert address in line


def test_infer_without_a_server_says_so(refused: Callable[..., str], key_file: Path, image: Path) -> None:
    address = f"127.0.0.1:{closed_port()}"
    assert address in refused("infer", "--peer", address, "--key-file", key_file, "--input", image)


@pytest.mark.parametrize("address", ["192.0.2.1:1", "nowhere", "127.0.0.1:99999"])
def test_infer_connects_to_loopback_only(
    refused: Callable[..., str], key_file: Path, image: Path, address: str
) -> None:
    refused("infer", "--peer", address, "--key-file", key_file, "--input", image)


def npy(header: bytes, values: bytes = b"") -> bytes:
    """An .npy file of format 1.0, written by hand."""
    padded = header + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + values


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an array",
        b"PK\x03\x04 not a zip file",
        b"PK\x05\x06" + bytes(18),
        npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"cos\nsystem\n(S'touch hacked'\ntR."),
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 8, 8), }", bytes(12)),
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000, 1000), }"),
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"),
        npy(b"{'descr': '<U4', 'fortran_order': False, 'shape': (1,), }", bytes(16)),
        npy(b"{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", bytes(8)),
        npy(b"__import__('os').system('touch hacked')"),
        npy(b"(" * 200),
    ],
)
def test_what_is_no_array_of_numbers_is_named(
    refused: Callable[..., str], folder: Path, key_file: Path, content: bytes
) -> None:
    (folder / "wrong.npy").write_bytes(content)
    address = f"127.0.0.1:{closed_port()}"
    assert "wrong.npy" in refused("infer", "--peer", address, "--key-file", key_file, "--input", folder / "wrong.npy")
    assert not (folder / "hacked").exists()


def test_a_key_is_written_for_its_owner_and_others_are_refused(
    run: Run, refused: Callable[..., str], folder: Path, image: Path
) -> None:
    path = folder / "new.key"
    assert run("key", "new", path)[0] == 0
    assert path.stat().st_mode & 0o777 == 0o600
    arguments = ("infer", "--peer", f"127.0.0.1:{closed_port()}", "--key-file", path, "--input", image)
    path.chmod(0o644)
    assert "chmod 600" in refused(*arguments)
    path.chmod(0o600)
    path.write_bytes(b"\xff" * 64)
    assert "new.key" in refused(*arguments)


def test_a_stale_profile_is_refused(run: Run, folder: Path) -> None:
    machine_profile.write(synthetic.profile(), folder / "profiles" / "old")
    code, out, err = run("fit", "old")
    assert (code, out) == (3, "")
    assert "measure again" in err
    assert len(err.splitlines()) == 1


@pytest.mark.usefixtures("profile")
def test_a_damaged_profile_is_named(refused: Callable[..., str], profile: Path) -> None:
    (profile / "samples.csv").write_bytes(b"operation,n\nencrypt,1024\n")
    for arguments in (("profiles", "show", "mine"), ("fit", "mine")):
        assert "samples.csv" in refused(*arguments)


@pytest.mark.parametrize("name", ["[/red]", "[bold]", "\x1b[31m"])
def test_names_from_files_are_shown_as_they_are(run: Run, policy_file: Path, name: str) -> None:
    document = json.loads(policy_file.read_text(encoding="utf-8"))
    document["layers"] = {name if key == "conv1" else key: layer for key, layer in document["layers"].items()}
    document["made_by"]["method"] = name
    policy_file.write_text(json.dumps(document), encoding="utf-8")
    code, out, _ = run("policy", "show", policy_file)
    assert code == 0
    assert "\x1b[31m" not in out
    if name.isprintable():
        assert out.count(name) == 2


def test_a_name_that_is_too_long_is_refused(refused: Callable[..., str], folder: Path) -> None:
    assert folder.exists()
    refused("profiles", "show", "x" * 5000)
    refused("networks", "show", "x" * 5000 + ".json")


def test_no_folder_can_be_created_where_a_file_is(refused: Callable[..., str], folder: Path) -> None:
    (folder / "file").touch()
    refused("key", "new", folder / "file" / "key")
    assert os.listdir(folder) == ["file"]  # noqa: PTH208 - names, not paths


def test_ctrl_c_is_one_line_and_130(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "autoprivacy.cli.main", "profile", "--name", "x", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob("x/partial/asked.json")):  # until it measures
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.strip().splitlines()[-1] == "autoprivacy: interrupted; what was finished is kept"
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["asked.json"]


def test_a_confirmation_that_contradicts_its_prediction_ends_with_4(run: Run, policy_file: Path, folder: Path) -> None:
    write_machine(folder, "snail", slower=100.0)
    arguments = ("confirm", "digits-cnn", "--policy", policy_file, "--profile", folder / "snail", "--unchecked")
    code, out, err = run(*arguments, "--images", "2", "--out", policy_file.parent / "confirmation.json", "--json")
    found = load(Confirmation, policy_file.parent / "confirmation.json")
    assert json.loads(out)["policies"][0]["logits_explained"] == found.policies[0].logits_explained == 2
    assert found.contradictions()
    assert (code, "profile again" in err) == (4, True)


@pytest.mark.usefixtures("profile")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--peer", "127.0.0.1:1"), "--key-file"),
        (("--peer", "127.0.0.1:1", "--peer", "127.0.0.1:2", "--key-file", "key"), "2 servers for 1 policies"),
        (("--peer", "192.0.2.1:1", "--key-file", "key"), "--certificate"),
        (("--link", "nowhere"), "nowhere"),
        (("--images", "100000"), "the confirm split has 300 images"),
        (("--out", "policy.json/x"), "policy.json/x"),
    ],
)
def test_a_confirmation_of_what_cannot_be_is_refused(
    refused: Callable[..., str], policy_file: Path, key_file: Path, arguments: tuple[str, ...], said: str
) -> None:
    assert key_file.exists()
    command = ("confirm", "digits-cnn", "--policy", policy_file, "--profile", "mine", "--unchecked")
    assert said in refused(*command, *arguments)


@pytest.mark.usefixtures("folder")
def test_a_peer_that_cannot_be_reached_is_refused(refused: Callable[..., str], key_file: Path) -> None:
    assert "--key-file" in refused("tune", "digits-cnn", "--peer", "127.0.0.1:1")
    assert "--certificate" in refused("tune", "digits-cnn", "--peer", "192.0.2.1:1", "--key-file", key_file)
    assert "nowhere" in refused("tune", "digits-cnn", "--peer", "nowhere", "--key-file", key_file)


@pytest.mark.usefixtures("profile")
def test_a_server_that_does_not_answer_is_named(run: Run, policy_file: Path, key_file: Path) -> None:
    arguments = ("confirm", "digits-cnn", "--policy", policy_file, "--profile", "mine", "--unchecked")
    code, out, err = run(*arguments, "--peer", f"127.0.0.1:{closed_port()}", "--key-file", key_file)
    assert (code, out) == (2, "")
    assert "no server answers" in err.splitlines()[-1]


def test_only_one_machine_can_confirm_a_search(refused: Callable[..., str], folder: Path) -> None:
    arguments = ("search", "digits-cnn", "--server", "office", "--client", "laptop", "--out", folder / "p.json")
    assert "confirm --peer" in refused(*arguments, "--confirm", "2")


def test_several_deployments_and_sweeps_say_what_they_need(refused: Callable[..., str], folder: Path) -> None:
    search = ("search", "digits-cnn", "--server", "a", "--server", "b", "--client", "c")
    assert "needs a folder" in refused(*search, "--out", folder / "p.json")
    assert "is for one deployment" in refused(*search, "--out", folder / "run", "--confirm", "2")
    assert "takes no latency budget" in refused(
        "search", "digits-cnn", "--server", "a", "--client", "b", "--out", folder / "p.json", "--method", "greedy",
        *("--latency-budget", "1"),
    )  # fmt: skip
    sweep = ("sweep", "digits-cnn", "--deployments", "a,b", "--out", folder / "run")
    assert "choose local or dask" in refused(*sweep, "--backend", "cloud")
    assert "--backend dask" in refused(*sweep, "--scheduler", "tcp://127.0.0.1:1")
    assert "must read SERVER,CLIENT" in refused("sweep", "digits-cnn", "--deployments", "a", "--out", folder / "run")
    assert "nowhere" in refused("sweep", "digits-cnn", "--deployments", "nowhere,nowhere", "--out", folder / "run")


def test_a_report_of_what_is_no_run_is_refused(refused: Callable[..., str], folder: Path) -> None:
    assert "run.json is missing" in refused("report", folder)


def test_the_log_can_be_turned_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPRIVACY_LOG", "loud")
    code, _, err = run("networks", "list")
    assert (code, "set it to info or debug" in err) == (2, True)


def test_the_version_is_said(run: Run) -> None:
    code, out, _ = run("--version")
    assert (code, out.split()[0]) == (0, "autoprivacy")
    assert out.split()[1] == version("autoprivacy")
