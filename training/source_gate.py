"""The gate before a long run: a source that nothing good can come of is refused, doubts are reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.voxels import VoxelGrid
from training.sources.protocol import Source
from training.sources.reading import read_sample
from training.sources.source_check import ERROR, check_source
from training.student.something_to_learn import Lesson, require_something_to_learn

LOOKED_AT = 3
"""So many scans tell whether a source and a grid belong together."""


def refuse_bad_source(source: Source, report: Callable[[str], None], needs_images: bool = False) -> None:
    """Looks at a few samples before hours are spent on all of them.

    Args:
        source: any.
        report: called with each warning, one sentence.
        needs_images: a source without cameras is refused too, as a 2D teacher can do nothing with it.

    Raises:
        InputError: a run would be worthless; the message lists everything that was found.
    """
    findings = check_source(source, needs_images=needs_images)
    errors = [finding for finding in findings if finding.severity == ERROR]
    if errors:
        listed = "".join(f"\n  {finding.where}: {finding.message}" for finding in errors)
        raise InputError(f"source {source.name} cannot be used, a look at a few of its samples found:{listed}")
    for finding in findings:
        report(str(finding))


def refuse_foreign_grid(source: Source, grid: VoxelGrid) -> None:
    """Looks, before hours are spent on labels, whether a few scans reach into the grid of the student.

    Args:
        source: any.
        grid: that the student will have.

    Raises:
        InputError: none of their points lies in it.
    """
    require_something_to_learn(_few_lessons(source), grid, "measured", "look at the source (ov-seg convert)")


def _few_lessons(source: Source) -> Iterator[Lesson]:
    """Of the scans that can be read: whatever lies in the grid teaches something."""
    for index in np.unique(np.linspace(0, len(source) - 1, LOOKED_AT).astype(int)):
        try:
            points = read_sample(source, int(index)).cloud.points
        except InputError:
            continue  # told of by the gate for all sources
        yield Lesson(points, np.ones(len(points), np.bool_))
