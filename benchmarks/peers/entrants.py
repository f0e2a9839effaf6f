"""Who takes part: names, where their code is, and what part they play."""

from __future__ import annotations

from dataclasses import dataclass

OURS, PEER, REDUCED, FLOOR, GAUGE = "ours", "peer", "reduced", "floor", "gauge"
"""Roles. One of reduced precision is beside the contest, its logits may be as far off as its tolerance says. A floor
does a part of the work and gives no logits; a gauge measures the machine beside the others."""
TOLERANCE = 1e-5
"""Largest error of a logit, relative to the largest logit, at which a contender in float32 counts as right."""


@dataclass(frozen=True)
class Entrant:
    """One contender.

    Attributes:
        name: for tables.
        target: "module:callable"; called with a ``Case`` and the number of threads, in a process of its own, it returns
            an object with ``run()``, which is timed, and ``logits(result)``, which is not: the (V, C) array of
            logits in the order of the scan's voxels, or None where there are none.
        role: one of the above.
        maps: whether what is timed includes building the kernel maps.
        environment: variables of its process besides those that set the number of threads.
        tolerance: largest error of a logit, relative to the largest logit, at which its time counts.
    """

    name: str
    target: str
    role: str = PEER
    maps: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    tolerance: float = TOLERANCE


_HERE = "benchmarks.peers"
_ONE_OPENMP_THREAD = (("OMP_NUM_THREADS", "1"),)
COMPILED = Entrant("ours, compiled", f"{_HERE}.compiled:Compiled", OURS)
ONNX_RUNTIME = Entrant("ours, ONNX Runtime", f"{_HERE}.onnx_runtime:OnnxRuntime", OURS)
GEMM_ONLY = Entrant("matrix products only", f"{_HERE}.floors:GemmOnly", FLOOR)
COPY = Entrant("copy", f"{_HERE}.floors:Copy", GAUGE)
GEMM_PEAK = Entrant("large matrix product", f"{_HERE}.floors:GemmPeak", GAUGE)
FLOORS = (GEMM_ONLY, COPY, GEMM_PEAK)

ENTRANTS: tuple[Entrant, ...] = (
    COMPILED,
    ONNX_RUNTIME,
    Entrant("torch, training path", f"{_HERE}.torch_tables:TorchTables"),
    Entrant("torch, norms folded", f"{_HERE}.torch_tables:folded"),
    Entrant("spconv, our maps", f"{_HERE}.spconv_peer:on_our_maps"),
    Entrant("spconv", f"{_HERE}.spconv_peer:warm"),
    Entrant("spconv, with maps", f"{_HERE}.spconv_peer:cold", maps=True),
    Entrant("Open3D", f"{_HERE}.open3d_peer:warm"),
    Entrant("Open3D, with maps", f"{_HERE}.open3d_peer:cold", maps=True),
    Entrant("torchsparse", f"{_HERE}.torchsparse_peer:warm"),
    Entrant("torchsparse, with maps", f"{_HERE}.torchsparse_peer:cold", maps=True),
    Entrant("MinkowskiEngine", f"{_HERE}.minkowski_engine_peer:warm", environment=_ONE_OPENMP_THREAD),
    Entrant("MinkowskiEngine, with maps", f"{_HERE}.minkowski_engine_peer:cold", PEER, True, _ONE_OPENMP_THREAD),
    Entrant("torch, bfloat16", f"{_HERE}.reduced_precision:bfloat16", REDUCED, tolerance=0.1),
    Entrant("torch, float16", f"{_HERE}.reduced_precision:float16", REDUCED, tolerance=0.1),
    Entrant("ONNX Runtime, int8", f"{_HERE}.reduced_precision:OnnxInt8", REDUCED, tolerance=0.5),
    *FLOORS,
)
"""All of them. The maps of those without "with maps" are built before and reused, as they would be within a scan."""
