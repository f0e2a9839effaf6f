"""The gate before a long run: a source that nothing good can come of is refused, doubts are reported."""

from __future__ import annotations

from collections.abc import Callable

from ov_seg_ros.core.errors import InputError
from training.sources.protocol import Source
from training.sources.source_check import ERROR, check_source


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
