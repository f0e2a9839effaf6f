"""What a run would do, before it does: samples, steps and disk of every stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ov_seg_ros.core.errors import OvSegError
from ov_seg_ros.core.projection import project_cloud
from training.atomic_files import format_bytes
from training.chain import Chain
from training.labelling_estimate import disk_estimate
from training.lift_stage import lifted_files
from training.student.minkunet import NETWORKS, MinkUNet
from training.student.trainer import TrainerConfig

LOOKED_AT = 3
"""Samples that sizes are taken from."""

BYTES_PER_POINT = 24
"""Of a labelled scan: position, intensity, ring, class, confidence, camera."""

BYTES_PER_PAIR = 17
"""Point, camera, pixel and segment."""


def plan_lines(chain: Chain, stages: Sequence[str]) -> Iterator[str]:
    """One line per stage; nothing is written.

    Args:
        chain: what would run.
        stages: names, in order.
    """
    source = chain.open_source()
    yield f"recipe {chain.recipe.name}, source {source.name}: {len(source)} samples, results in {chain.work}"
    for stage in stages:
        yield f"{stage}: {_PLANS[stage](chain)}"


def _label(chain: Chain) -> str:
    try:
        return str(disk_estimate(chain.open_source(), chain.build_teacher()))
    except OvSegError as error:
        return f"would fail now: {error}"


def _lift(chain: Chain) -> str:
    source = chain.open_source()
    points, pairs = [], []
    for index in sorted({round(i) for i in np.linspace(0, len(source) - 1, LOOKED_AT)}):
        sample = source.load_sample(index)
        points.append(len(sample.cloud))
        seen = [project_cloud(sample.cloud.points, i.camera_from_lidar, i.camera) for i in sample.images]
        pairs.append(sum(map(len, seen)))
    per_point = BYTES_PER_POINT + 4 * chain.recipe.lift.colors
    size = len(source) * (np.mean(points) * per_point + np.mean(pairs) * BYTES_PER_PAIR)
    return (
        f"{len(source)} scans of about {np.mean(points):,.0f} points, {np.mean(pairs):,.0f} of them in images: "
        f"{format_bytes(round(size))} on disk, and the features of the segments"
    )


def _refine(chain: Chain) -> str:
    return _lift(chain) if chain.recipe.refine.labels else "the recipe leaves lifted labels as they are"


def _pretrain(chain: Chain) -> str:
    return _training(chain, chain.recipe.pretrain.trainer)


def _train(chain: Chain) -> str:
    return _training(chain, chain.recipe.train.trainer)


def _probe(chain: Chain) -> str:
    linear, all_layers = chain.recipe.probe.trainer, chain.recipe.finetune.trainer
    return f"linear: {_training(chain, linear)}; finetune: {_training(chain, all_layers)}"


def _training(chain: Chain, config: TrainerConfig) -> str:
    files, _ = lifted_files(chain.folder("lift"))
    count = len(files) or len(chain.open_source())
    network = MinkUNet(NETWORKS[chain.recipe.network], len(chain.recipe.point_features), 1)
    parameters = sum(p.numel() for p in network.parameters())
    # weights, their average, and one or two moments of the optimiser, four bytes each
    size = parameters * 4 * (3 if config.optimizer.kind == "sgd" else 4)
    steps = config.num_steps(count)
    return (
        f"{steps:,} steps of {config.batch_size} scans ({steps * config.batch_size / max(count, 1):.1f} passes over "
        f"{count:,} scans), {parameters / 1e6:.1f} M parameters, checkpoint {format_bytes(size)}"
    )


def _export(chain: Chain) -> str:
    return f"{chain.work / 'student.onnx'}"


def _evaluate(chain: Chain) -> str:
    rows = "student" + (", student + AFI" if chain.recipe.refine.predictions else "")
    return f"{rows} on the ground truth of the source"


_PLANS: dict[str, Callable[[Chain], str]] = {
    "label": _label,
    "lift": _lift,
    "refine": _refine,
    "pretrain": _pretrain,
    "train": _train,
    "probe": _probe,
    "export": _export,
    "evaluate": _evaluate,
}
