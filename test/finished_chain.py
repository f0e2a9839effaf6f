"""Everything the offline chain can do, done once on four tiny scans, for tests that look at the results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch
from tiny_chain import tiny_chain

from training.chain import Chain
from training.pipeline import evaluate, export, label, lift, pretrain, probe, train


def run_everything(work: Path, exported: Path) -> SimpleNamespace:
    """Label, lift, pre-train, train, export, evaluate, and probe both ways."""
    torch.set_num_threads(1)
    calls: list[tuple[str, int, int]] = []
    chain = replace(tiny_chain(work, exported), progress=lambda *call: calls.append(call))
    stages = {"label": label(chain).folder, "lift": lift(chain), "pretrain": pretrain(chain)}
    stages["train"], trainer = train(chain)
    model = work / "student.onnx"
    export(chain, stages["train"], trainer, model)
    scores = evaluate(chain, model, work / "evaluation")
    probes = {mode: probe(chain, mode) for mode in ("linear", "finetune")}
    return SimpleNamespace(
        chain=chain, work=work, model=model, stages=stages, trainer=trainer, scores=scores, probes=probes, calls=calls
    )


def copy_of(run: SimpleNamespace, folder: Path, *stages: str) -> Chain:
    """The chain in another folder, with links to finished stages of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    for stage in stages:
        (folder / stage).symlink_to(run.work / stage)
    return replace(run.chain, work=folder)
