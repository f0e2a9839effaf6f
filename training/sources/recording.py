"""A recording as a source of samples."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ov_seg_ros.bags.labelled import truth_class_names
from ov_seg_ros.bags.layout import TRUTH_TOPIC
from ov_seg_ros.bags.recording import Recording
from ov_seg_ros.bags.sample_stream import SampleStream, SampleStreamOptions
from ov_seg_ros.core.data_types import Sample
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.fingerprint import fingerprint_values
from training.sources.label_mapping import LABEL_SPACES
from training.sources.point_files import check_index

_DEFAULT_OPTIONS = SampleStreamOptions(truth_topic=TRUTH_TOPIC)


class RecordingSource:
    """A recording read scan by scan: LiDAR and cameras are found, images matched, tf looked up.

    Reading in order streams the recording once. Any other index seeks, at the cost of reading about a second of
    messages; the first time, all scans are visited for their times.

    Attributes:
        recording: the open recording.
        stream: what was found in it, which cameras are skipped and why, and the counters of the matching.
    """

    def __init__(self, path: str | Path, options: SampleStreamOptions = _DEFAULT_OPTIONS) -> None:
        """Opens the recording.

        Raises:
            InputError: no recording, or no LiDAR or several in it.
        """
        self.recording = Recording.open(path)
        self.stream = SampleStream(self.recording, options)
        self._options = options
        self._next: tuple[int, Iterator[Sample]] = (0, self.stream.samples())

    @property
    def name(self) -> str:
        """Name of the recording's folder or file."""
        return self.recording.name

    @cached_property
    def label_space(self) -> LabelSpace | None:
        """Of the ground truth by /ground_truth/label_info; None if the recording does not say."""
        class_names = truth_class_names(self.recording)
        return None if class_names is None else _label_space_of(class_names, self.name)

    def __len__(self) -> int:
        return self.recording.topics[self.stream.lidar_topic].count

    def load_sample(self, index: int) -> Sample:
        """Loads scan ``index`` in the order of reception, with the images that belong to it.

        Raises:
            InputError: the index is out of range, or the recording cannot be read.
        """
        check_index(index, len(self), self.name)
        position, samples = self._next
        if position != index:
            samples = self.stream.samples(self._received_ns[index])
        sample = next(samples, None)
        if sample is None:
            raise InputError(f"{self.recording.path} ends before scan {index}, its index says {len(self)} scans")
        self._next = (index + 1, samples)
        return sample

    def describe(self) -> dict[str, Any]:
        """See ``Source``; the first scan stands for all, beside the time and the messages of the recording."""
        topics = [self.stream.lidar_topic, *(camera.image_topic for camera in self.stream.cameras)]
        options, truth = self._options, self.recording.topics.get(self._options.truth_topic or "")
        return {
            "start_ns": self.recording.start_ns,
            "duration_ns": self.recording.duration_ns,
            "messages": {name: self.recording.topics[name].count for name in topics},
            "matching": {"tolerance_ns": options.tolerance_ns, "offsets_ns": dict(options.offsets_ns)},
            **self._about_first_scan,
            "truth": None if truth is None else {"topic": truth.name, "messages": truth.count},
        }

    @cached_property
    def _about_first_scan(self) -> dict[str, Any]:
        # a stream of its own: that of the samples keeps its place, and its counters
        options = replace(self._options, cameras=self.stream.cameras, truth_topic=None)
        try:
            sample = next(SampleStream(self.recording, options).samples(), None)
        except InputError:  # one corrupt scan is bearable, see labelling_run
            sample = None
        if sample is None:
            return {"first_scan": "unreadable"}
        mounts = [(i.name, asdict(i.camera), i.camera_from_lidar.tolist()) for i in sample.images]
        return {
            "first_scan": fingerprint_values(sample.cloud.points, sample.cloud.intensity),
            "calibration": fingerprint_values(mounts),
        }

    @cached_property
    def _received_ns(self) -> list[int]:
        return [message.received_ns for message in self.recording.iter_messages([self.stream.lidar_topic])]


def _label_space_of(class_names: tuple[str, ...], name: str) -> LabelSpace:
    """The known label space with these classes, else one with colours of its own."""
    for path in sorted(LABEL_SPACES.glob("*.yaml")):
        if "_to_" not in path.stem:
            known = LabelSpace.load(path)
            if known.class_names == class_names:
                return known
    return LabelSpace(name, class_names, tuple(_color(i) for i in range(len(class_names))))


def _color(index: int) -> tuple[int, int, int]:
    """Hues a golden angle apart: neighbours in the list look different."""
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.65, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)
