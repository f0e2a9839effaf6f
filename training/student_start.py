"""Starting a training from a student file: does it fit the recipe, and what do its batch norms see here?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ov_seg_ros.core.errors import ConfigError, ModelError
from ov_seg_ros.core.student_description import StudentDescription
from training.import_student import load_network, measure_norms
from training.recipe import Recipe
from training.stage_folder import first_difference
from training.student.examples import Batch
from training.student.label_objective import LabelledScans
from training.student.minkunet import MinkUNet
from training.student.process_group import ProcessGroup

MEASURED_SCANS = 16
"""That show what the batch norms of a student see; two in a pass."""


def check_student_starts(recipe: Recipe) -> None:
    """Makes sure of every student file that a recipe starts from, before anything is computed.

    Raises:
        ModelError: a file is missing or damaged, or it is no student that this package trained.
        ConfigError: a student has another network, grid, point features or classes than the recipe.
    """
    for stage in ("train", "probe", "finetune"):
        student = getattr(recipe, stage).student
        if student is not None:
            _check_fit(recipe, stage, student)


def start_from_student(network: MinkUNet, student: Path, scans: LabelledScans, group: ProcessGroup) -> None:
    """Gives a network the weights of a student file, the last layer included.

    A student file holds no statistics of its batch norms, so these are measured on scans of the training: by the first
    process, whose numbers all of them take.

    Args:
        network: on the CPU; changed in place.
        student: of the same network, grid, features and classes (see ``check_student_starts``).
        scans: that it will learn from.
        group: the processes that train together.

    Raises:
        ModelError: the file is no such student.
        InputError: there are no scans.
    """
    if group.rank == 0:
        own, description = load_network(student)
        measure_norms(own, _batches(scans, description.num_levels))
        network.load_state_dict(own.state_dict())
    values = [value for value in network.state_dict().values() if value.dtype.is_floating_point]
    sums = [(value if group.rank == 0 else torch.zeros_like(value)).to(group.device) for value in values]
    group.sum_(sums)
    for value, first in zip(values, sums, strict=True):
        value.copy_(first)


def _batches(scans: LabelledScans, num_levels: int) -> Iterator[Batch]:
    """Passes of two scans, spread over all."""
    rng = np.random.default_rng(0)
    chosen = range(0, len(scans), max(1, len(scans) // MEASURED_SCANS))[:MEASURED_SCANS]
    for first in range(0, len(chosen), 2):
        yield scans.make_batch(chosen[first : first + 2], num_levels, rng)


def _check_fit(recipe: Recipe, stage: str, student: Path) -> None:
    try:
        _, description = load_network(student)
    except ModelError as error:
        raise ModelError(f"recipe {recipe.name}: {stage} cannot start from {student}: {error}") from error
    have, want = _shape_of_student(description), _shape_of_recipe(recipe)
    if (difference := first_difference(have, want)) is not None:
        key, came, expected = difference
        raise ConfigError(
            f"recipe {recipe.name}: {stage} cannot start from {student}, which has {key} = {came}; the recipe says "
            f"{expected}: take over the {key.partition('.')[0]} of the student, or start from another one"
        )


def _shape_of_student(description: StudentDescription) -> dict[str, Any]:
    """What a student cannot change any more."""
    return {
        "network": description.recipe["network"],
        "grid": asdict(description.grid),
        "point_features": list(description.point_features),
        "classes": dict(enumerate(description.label_space.class_names)),
    }


def _shape_of_recipe(recipe: Recipe) -> dict[str, Any]:
    return {
        "network": recipe.network,
        "grid": asdict(recipe.grid.build()),
        "point_features": list(recipe.point_features),
        "classes": dict(enumerate(recipe.load_label_space().class_names)),
    }
