import json
from pathlib import Path

import pytest

from autoprivacy.common.errors import BadInput, ProfileMismatch
from autoprivacy.hwprofiles.header import Software
from autoprivacy.hwprofiles.machine_profile import check_fresh, read

HEADER = {
    "schema_version": 1,
    "id": "0123456789abcdef",
    "name": "old",
    "measured_on": "2026-11-23",
    "software": {"seal": "4.4.0", "kernels_version": 2},
    "machine": {
        "cpu": "some",
        "architecture": "x86_64",
        "instruction_sets": ["aes"],
        "cores": 2,
        "memory_bytes": 8000000000,
        "kernel": "Linux 6.1",
        "python": "3.11.0",
        "aes_path": "aesni",
    },
    "conditions": {
        "load_average": 0.5,
        "reference_typical_s": 6e-05,
        "reference_slowdown_median": 1.2,
        "reference_slowdown_p95": 1.5,
        "verdict": "noisy",
    },
    "processes": 3,
    "rounds": 14,
}
SAMPLES = """operation,n,q_bits,calls,items,values,blocks,quiet_s,quiet_low_s,quiet_high_s,typical_s
encrypt,1024,26,1,0,0,42,1e-4,1e-4,1e-4,1.2e-4
garble,0,0,1,700,10,42,2e-4,1e-4,3e-4,3e-4
"""
RUNS = {
    "runs": [
        {
            "name": "random0",
            "layers": 1,
            "work": [{"operation": "encrypt", "n": 1024, "q_bits": 26, "calls": 3, "items": 0, "values": 0}],
            "components": {"client_he_s": {"quiet_s": 0.1, "typical_s": 0.2}},
            "latency": {"quiet_s": 0.1, "typical_s": 0.2},
        }
    ]
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "profile.json").write_text(json.dumps(HEADER), encoding="utf-8")
    (tmp_path / "samples.csv").write_text(SAMPLES, encoding="utf-8")
    (tmp_path / "runs.json").write_text(json.dumps(RUNS), encoding="utf-8")
    return tmp_path


def test_an_older_profile_is_read(folder: Path) -> None:
    found = read(folder)
    encrypt, garble = found.samples
    assert (encrypt.kernel, encrypt.limbs, encrypt.limb_bits, encrypt.t_bits) == ("ring", 1, 26, 16)
    assert (encrypt.quiet_s, encrypt.typical_s) == (1e-4, 1.2e-4)
    assert (garble.kernel, garble.items, garble.values) == ("", 700, 10)
    assert found.runs[0].work[0].calls == 3
    assert found.header.conditions.reference_quiet_s == pytest.approx(5e-5)


def test_an_older_profile_is_stale(folder: Path) -> None:
    with pytest.raises(ProfileMismatch, match=r"schema 1.*measure again"):
        check_fresh(read(folder), Software("4.4.0", 2))


def test_a_damaged_older_profile_is_refused(folder: Path) -> None:
    (folder / "samples.csv").write_text(SAMPLES.replace("1.2e-4", "nan"), encoding="utf-8")
    with pytest.raises(BadInput, match="line 2: column 'typical_s'"):
        read(folder)
