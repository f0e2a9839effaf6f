"""What a run would do, before it does: samples, steps and disk of every stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ov_seg_ros.core.errors import InputError, OvSegError
from ov_seg_ros.core.projection import project_cloud
from ov_seg_ros.runtime.model_file import load_model_file
from training.atomic_files import format_bytes
from training.chain import Chain
from training.finished_labels import find_finished
from training.labelling_estimate import disk_estimate
from training.lift_stage import lifted_files
from training.pipeline import require_truth
from training.sources.protocol import Source
from training.student.minkunet import NETWORKS, MinkUNet
from training.student.trainer import TrainerConfig

LOOKED_AT = 3
"""Samples that sizes are taken from."""

BYTES_PER_POINT = 24
"""Of a labelled scan: position, intensity, ring, class, confidence, camera."""

BYTES_PER_COLOR = 4

BYTES_PER_PAIR = 17
"""Point, camera, pixel and segment."""


def plan_lines(chain: Chain, stages: Sequence[str], model: Path | None = None) -> Iterator[str]:
    """One line per stage; nothing is written.

    Args:
        chain: what would run.
        stages: names, in order; "linear" and "finetune" are the two ways to probe.
        model: file of the student; None = none yet, the stages will write one beside them.

    Raises:
        InputError: a stage needs ground truth, and the source has none in the label space of recipe or student.
        ModelError: the student to evaluate is there, but damaged.
    """
    source = chain.open_source()
    plans = _PLANS | {"export": partial(_export, model=model), "evaluate": partial(_evaluate, model=model)}
    yield f"recipe {chain.recipe.name}, source {source.name}: {len(source)} samples, results in {chain.work}"
    for stage in stages:
        yield f"{stage}: {plans[stage](chain)}"


def _label(chain: Chain) -> str:
    try:
        source = chain.open_source()
        found = find_finished(chain.folder("label"), source, chain.dictionary, chain.teacher_request, chain.part)
        if found is not None:
            return f"done before, {found.folder.count} samples in {found.folder.path}"
        return str(disk_estimate(source, chain.build_teacher()))
    except OvSegError as error:
        return f"would fail now: {error}"


def _lift(chain: Chain) -> str:
    samples, points, pairs = _sizes(chain.open_source())
    size = samples * (points * _bytes_per_point(chain) + pairs * BYTES_PER_PAIR)
    return (
        f"{samples} scans of about {points:,.0f} points, {pairs:,.0f} of them in images: {format_bytes(round(size))} "
        "on disk, and the features of the segments"
    )


def _refine(chain: Chain) -> str:
    if not chain.recipe.refine.labels:
        return "the recipe leaves lifted labels as they are"
    samples, points, _ = _sizes(chain.open_source())
    return f"{samples} scans, {format_bytes(round(samples * points * _bytes_per_point(chain)))} on disk"


def _pretrain(chain: Chain) -> str:
    return _training(chain, chain.recipe.pretrain.trainer, _lifted_scans(chain))


def _train(chain: Chain) -> str:
    return _training(chain, chain.recipe.train.trainer, _lifted_scans(chain))


def _linear(chain: Chain) -> str:
    return _probing(chain, chain.recipe.probe.trainer)


def _finetune(chain: Chain) -> str:
    return _probing(chain, chain.recipe.finetune.trainer)


def _probing(chain: Chain, config: TrainerConfig) -> str:
    require_truth(chain.open_source(), chain.recipe.load_label_space())
    samples, points, _ = _sizes(chain.open_source())
    size = format_bytes(round(samples * points * _bytes_per_point(chain)))
    return f"true labels of {samples:,} scans, {size} on disk, then {_training(chain, config, samples)}"


def _training(chain: Chain, config: TrainerConfig, count: int) -> str:
    network = MinkUNet(NETWORKS[chain.recipe.network], len(chain.recipe.point_features), 1)
    parameters = sum(p.numel() for p in network.parameters())
    # weights, their average, and one or two moments of the optimiser, four bytes each
    size = parameters * 4 * (3 if config.optimizer.kind == "sgd" else 4)
    steps = config.num_steps(count)
    return (
        f"{steps:,} steps of {config.batch_size} scans ({steps * config.batch_size / max(count, 1):.1f} passes over "
        f"{count:,} scans), {parameters / 1e6:.1f} M parameters, checkpoint {format_bytes(size)}"
    )


def _export(chain: Chain, model: Path | None) -> str:
    return str(model or chain.work / "student.onnx")


def _evaluate(chain: Chain, model: Path | None) -> str:
    """A student that is not there yet will have the classes of the recipe."""
    source, space = chain.open_source(), chain.recipe.load_label_space()
    if model is not None and model.exists():
        space = load_model_file(model).description.label_space
    require_truth(source, space)
    rows = "student" + (", student + AFI" if chain.recipe.refine.predictions else "")
    return f"{rows} on the ground truth of {len(source)} samples of {source.name}"


def _lifted_scans(chain: Chain) -> int:
    """As many as there are, or, before they are lifted, as there may be."""
    return len(lifted_files(chain.folder("lift"))[0]) or len(chain.open_source())


def _bytes_per_point(chain: Chain) -> int:
    return BYTES_PER_POINT + BYTES_PER_COLOR * chain.recipe.lift.colors


def _sizes(source: Source) -> tuple[int, float, float]:
    """Samples, and the mean of the points and of the pairs with pixels of those that are looked at and can be read."""
    points, pairs = [], []
    for index in sorted({round(i) for i in np.linspace(0, len(source) - 1, LOOKED_AT)}):
        try:
            sample = source.load_sample(index)
        except InputError:
            continue  # some corrupt ones are bearable, see labelling_run
        points.append(len(sample.cloud))
        seen = [project_cloud(sample.cloud.points, i.camera_from_lidar, i.camera) for i in sample.images]
        pairs.append(sum(map(len, seen)))
    return len(source), float(np.mean(points or 0)), float(np.mean(pairs or 0))


_PLANS: dict[str, Callable[[Chain], str]] = {
    "label": _label,
    "lift": _lift,
    "refine": _refine,
    "pretrain": _pretrain,
    "train": _train,
    "linear": _linear,
    "finetune": _finetune,
}
