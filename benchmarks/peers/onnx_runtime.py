"""Ours: the exported student on ONNX Runtime's CPU provider, which the node falls back to."""

from __future__ import annotations

from benchmarks.peers.compiled import Compiled


class OnnxRuntime(Compiled):
    """A session with the options of the node: waiting threads sleep, so they take nothing from the next contender."""

    provider = "CPUExecutionProvider"
