"""The kernels compile to tensor core instructions for GPUs that this machine need not have, and spill no register."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
HOPPER, ORIN = 90, 87
SHARED_MEMORY = 99 * 1024  # bytes that a program may have on an RTX 30 or 40, the least of all cards since Ampere

pytestmark = [
    pytest.mark.xdist_group("triton"),
    pytest.mark.skipif(
        not ((TOOLS / "ptxas").exists() and (TOOLS / "cuobjdump").exists()),
        reason="needs a wheel of Triton with NVIDIA's tools",
    ),
]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    """In a process of its own: in this one, the interpreter may be on."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": str(ROOT)}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    command = [sys.executable, str(ROOT / "test" / "triton_ahead_of_time.py"), str(HOPPER), str(ORIN)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_kernel_spills_registers(compiled: dict[str, dict[str, int]]) -> None:
    assert {name: found["stack"] for name, found in compiled.items() if found["stack"]} == {}


def test_shared_memory_suffices_on_every_card(compiled: dict[str, dict[str, int]]) -> None:
    assert max(found["shared"] for found in compiled.values()) <= SHARED_MEMORY


def test_half_precision_runs_on_tensor_cores(compiled: dict[str, dict[str, int]]) -> None:
    for name, found in compiled.items():
        capability, case = name.split()
        if case not in ("tiles", "float32"):
            assert found["wgmma" if int(capability) == HOPPER else "mma"] > 0, name


def test_float32_stays_float32(compiled: dict[str, dict[str, int]]) -> None:
    """No product in tf32, whose 10 bits would not pass for float32."""
    for capability in (HOPPER, ORIN):
        assert compiled[f"{capability} float32"]["wgmma"] == compiled[f"{capability} float32"]["mma"] == 0


def test_features_are_fetched_16_bytes_at_a_time_while_others_are_multiplied(
    compiled: dict[str, dict[str, int]],
) -> None:
    for name, found in compiled.items():
        assert name.endswith("tiles") or found["copies_of_16_bytes"] > 0, name
