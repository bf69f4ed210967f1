import re
import subprocess
import sys
from pathlib import Path

import pytest

from autoprivacy.common.records import save
from autoprivacy.protocol.policy import Policy
from tests import by_hand
from tests.models.deployed import write_machine

DOCS = Path(__file__).parents[2] / "docs" / "latency-models.md"


def test_the_examples_of_the_documentation_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: Policy) -> None:
    save(policy, tmp_path / "p.json")
    save(by_hand.policy(1024, 26, 4), tmp_path / "q.json")
    write_machine(tmp_path, "office")
    write_machine(tmp_path, "laptop", slower=2.0, profile_id="fedcba9876543210")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTOPRIVACY_PROFILES", str(tmp_path))
    lines = re.search(r"From Python:\n\n((?:    .*\n|\n)+)", DOCS.read_text(encoding="utf-8"))
    assert lines is not None
    script = re.sub(r"^    ", "", lines[1], flags=re.MULTILINE) + "\nprint(report.comparison.best[0].policy, page[:15])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"[pq] <!doctype html>\n", done.stdout)
