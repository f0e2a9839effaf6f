"""What labelling a source will take, before it is begun."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ov_seg_ros.core.errors import InputError
from training.atomic_files import format_bytes
from training.sources.protocol import Source
from training.teachers.protocol import Teacher
from training.teachers.segment_files import encode_segments

BLOCK = 4096
"""Bytes of a block of common file systems; every file takes whole blocks."""


@dataclass(frozen=True)
class DiskEstimate:
    """What labelling a source takes.

    Attributes:
        samples: of the source.
        images_per_sample: mean.
        bytes_per_image: on the disk, mean; whole blocks.
        seconds_per_image: of the teacher in this process, mean.
    """

    samples: int
    images_per_sample: float
    bytes_per_image: float
    seconds_per_image: float

    @property
    def images(self) -> int:
        """Of the whole source."""
        return round(self.samples * self.images_per_sample)

    @property
    def total_bytes(self) -> int:
        """For the whole source."""
        return round(self.images * self.bytes_per_image)

    def __str__(self) -> str:
        seconds = self.images * self.seconds_per_image
        took = f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
        return (
            f"{self.samples} samples, {self.images} images: {format_bytes(self.total_bytes)} on disk "
            f"({format_bytes(self.bytes_per_image)} per image), {took} of the teacher in one process"
        )


def disk_estimate(source: Source, teacher: Teacher, samples: int = 3) -> DiskEstimate:
    """Bytes and time per image, from labelling a few samples spread over the source; nothing is written.

    Raises:
        InputError: not one of these samples can be labelled, or none has an image.
    """
    count = min(samples, len(source))
    sizes: list[int] = []
    seconds, looked_at, last = 0.0, 0, InputError(f"source {source.name} has no samples")
    for index in (len(source) * n // count for n in range(count)):
        try:
            sample = source.load_sample(index)
            for image in sample.images:
                start = time.perf_counter()
                segments = teacher.segment(image, sample.key)
                seconds += time.perf_counter() - start
                sizes.append(sum(_blocks(len(content)) for content in encode_segments(segments).values()))
            looked_at += 1
        except InputError as error:
            last = error
    if not looked_at:
        raise last
    if not sizes:
        raise InputError(f"{looked_at} samples of source {source.name} have no image; a 2D teacher needs cameras")
    return DiskEstimate(len(source), len(sizes) / looked_at, sum(sizes) / len(sizes), seconds / len(sizes))


def _blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
