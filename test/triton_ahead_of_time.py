"""Compiles the kernels for GPUs that need not be there, and prints as JSON what came out.

    python triton_ahead_of_time.py 90 87 80      (compute capabilities; Triton's interpreter must be off)

Triton's wheel holds LLVM, ptxas and cuobjdump; no driver is needed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ov_seg_ros.gpu.convolution import _convolve
from ov_seg_ros.gpu.tile_shapes import TileShape, choose_tile
from ov_seg_ros.gpu.tile_table import _fill

CASES = {  # c_in, c_out, c_plain, positions, float16: layers of a MinkUNet18
    "stem": (16, 32, 0, 27, True),
    "projection": (96, 96, 128, 27, True),
    "wide": (384, 256, 256, 27, True),
    "up": (128, 96, 0, 8, True),
    "head": (0, 32, 96, 27, True),
    "float32": (96, 96, 128, 27, False),
}


def compile_case(capability: int, case: tuple[int, int, int, int, bool], shape: TileShape | None = None) -> Any:
    c_in, c_out, c_plain, positions, is_half = case
    shape = shape or choose_tile(c_in or c_plain, c_out, is_half)
    constants = {"K": positions, "C_IN": c_in, "C_PLAIN": c_plain, "C_OUT": c_out}
    constants |= {"HAS_RESIDUAL": True, "RELU": True, "PLAIN_K": min(c_plain & -c_plain, shape.block_k)}
    constants |= {"BLOCK_M": shape.block_m, "BLOCK_N": shape.block_n, "TAIL_N": shape.tail_n, "BLOCK_K": shape.block_k}
    constants["PLAIN_STAGES"] = 3
    options = {"num_warps": shape.num_warps, "num_stages": shape.num_stages, "enable_fp_fusion": True}
    return _compile(_convolve, constants, "*fp16" if is_half else "*fp32", capability, options)


def _compile(kernel: Any, constants: dict[str, Any], features: str, capability: int, options: dict[str, Any]) -> Any:
    signature, attributes = {}, {}
    for i, name in enumerate(kernel.arg_names):
        signature[name] = "constexpr" if name in constants else _type_of(name, features)
        if name not in constants:
            attributes[(i,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def _type_of(name: str, features: str) -> str:
    if name.endswith("_stride") or name == "capacity":
        return "i32"
    if name in ("targets", "sources", "taken", "steps", "rows", "order", "count"):
        return "*i32"
    return "*fp32" if name == "bias" else features


def what_came_out(compiled: Any) -> dict[str, int]:
    """Counts of instructions in the PTX; registers, stack (spilled registers) and shared memory in bytes."""
    ptx = compiled.asm["ptx"]
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)
    assert found, usage
    return {
        "registers": int(found[1]),
        "stack": int(found[2]) + int(found[3]),
        "shared": compiled.metadata.shared,
        "wgmma": ptx.count("wgmma.mma_async"),
        "mma": ptx.count("mma.sync"),
        "copies_of_16_bytes": len(re.findall(r"cp\.async\.c[ag]\.shared\.global[^;]*, 0x10,", ptx)),
    }


def main() -> None:
    found = {}
    for capability in map(int, sys.argv[1:]):
        for name, case in CASES.items():
            found[f"{capability} {name}"] = what_came_out(compile_case(capability, case))
        constants = {"K": 27, "K_PADDED": 32, "BLOCK_M": 64}
        found[f"{capability} tiles"] = what_came_out(
            _compile(_fill, constants, "*i32", capability, {"num_warps": 4, "enable_fp_fusion": True})
        )
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
