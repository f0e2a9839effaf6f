"""Reading one sample of many: what is wrong with it must not end a run over all of them."""

from __future__ import annotations

from ov_seg_ros.core.data_types import Sample
from ov_seg_ros.core.errors import InputError
from training.sources.protocol import Source


def read_sample(source: Source, index: int) -> Sample:
    """Loads a sample; a file that cannot be read counts as a corrupt sample.

    Args:
        source: any.
        index: in [0, len).

    Raises:
        InputError: the sample is corrupt, or the system refuses to read one of its files.
    """
    try:
        return source.load_sample(index)
    except OSError as error:
        place = f" {error.filename}" if error.filename else ""
        raise InputError(
            f"sample {index} of source {source.name} cannot be read:{place} {error.strerror or error}"
        ) from error
