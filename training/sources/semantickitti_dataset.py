"""SemanticKITTI as a whole: the sequences of a split as one source."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import Sample
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.sources.label_mapping import LabelMapping
from training.sources.point_files import check_index
from training.sources.semantickitti import RAW_CLASSES, SemanticKitti, is_semantickitti

SPLITS_FILE = Path(__file__).resolve().parents[2] / "config" / "splits" / "semantickitti.yaml"


@dataclass(frozen=True)
class SemanticKittiSelection:
    """Scans of several sequences.

    Attributes:
        split: "train", "val" or "test" (00-07, 09, 10; 08; 11-21); None = every sequence there is.
        sequences: only these of the split; empty = all of them.
        skip: keeps scans 0, skip, 2 skip, ... of all chosen sequences in a row, which is what SLidR and AFOV call
            ``dataset_skip_step`` (downstream/dataloader_kitti.py): 100 = "1 %".

    Raises:
        ConfigError: an unknown split, ``skip`` less than 1, or a sequence that stands twice.
    """

    split: str | None = None
    sequences: tuple[str, ...] = ()
    skip: int = 1

    def __post_init__(self) -> None:
        if self.split is not None and self.split not in split_names():
            raise ConfigError(f"SemanticKITTI has no split {self.split!r}; known: {', '.join(split_names())}")
        if self.skip < 1:
            raise ConfigError(f"skip must be 1 (every scan) or more, got {self.skip}")
        if len(set(self.sequences)) != len(self.sequences):
            raise ConfigError(f"sequences must differ, got {' '.join(self.sequences)}")

    def choose(self, there: Sequence[str], where: Path) -> list[str]:
        """Names of the chosen sequences, ascending.

        Raises:
            InputError: one of them is not there, or is none of the split.
        """
        wanted = there if self.split is None else sequences_of_split(self.split)
        if unknown := sorted(set(self.sequences) - set(wanted)):
            place = str(where) if self.split is None else f"split {self.split}"
            raise InputError(f"{' '.join(unknown)} is no sequence of {place}; it has {' '.join(sorted(wanted))}")
        chosen = sorted(self.sequences or wanted)
        if missing := [name for name in chosen if name not in there]:
            raise InputError(
                f"{where} lacks the scans of sequence {' '.join(missing)}; download them, or choose with "
                f"sequences={'+'.join(name for name in chosen if name in there) or '00+01'}"
            )
        return chosen

    @property
    def name(self) -> str:
        """Short name, different for every selection: "semantickitti_train_skip100"."""
        parts = ["semantickitti"]
        if self.split is not None or not self.sequences:
            parts.append(self.split or "all")
        parts += sorted(self.sequences)
        return "_".join([*parts, f"skip{self.skip}"] if self.skip > 1 else parts)


def is_semantickitti_root(folder: Path) -> bool:
    """Whether a folder holds ``sequences/*/velodyne``, or ``dataset`` which does."""
    return bool(_sequence_folders(folder))


class SemanticKittiDataset:
    """Scans of several sequences in the order of sequence and scan; see ``SemanticKitti`` for what a sample holds.

    Attributes:
        name: "semantickitti_train", "semantickitti_train_skip100", "semantickitti_00_01".
        mapping: from raw ids to the label space; ``mapping.shared_class_ids`` are the classes to evaluate.
        sequences: the sources behind it.
    """

    def __init__(
        self,
        folder: str | Path,
        selection: SemanticKittiSelection | None = None,
        labels: str = "nuscenes16",
    ) -> None:
        """Lists the scans.

        Args:
            folder: holds ``sequences``, or ``dataset`` which does; or one sequence itself.
            selection: None = everything there is.
            labels: see ``SemanticKitti``.

        Raises:
            InputError: no sequences, or a chosen one is missing.
            ConfigError: there is no mapping to ``labels``.
        """
        selection = selection or SemanticKittiSelection()
        folders = _sequence_folders(Path(folder))
        if not folders:
            raise InputError(f"{folder} is no SemanticKITTI root: expected sequences/00/velodyne/*.bin in it")
        self.name = selection.name
        self.mapping = LabelMapping.load(f"{RAW_CLASSES}_to_{labels}")
        self.sequences = tuple(SemanticKitti(folders[n], labels) for n in selection.choose(list(folders), Path(folder)))
        self._skip = selection.skip
        self._ends = list(accumulate(len(sequence) for sequence in self.sequences))

    @property
    def label_space(self) -> LabelSpace | None:
        """The label space of ``Sample.class_id``, None if no chosen sequence has labels."""
        return next((s.label_space for s in self.sequences if s.label_space is not None), None)

    def __len__(self) -> int:
        return -(-self._ends[-1] // self._skip)

    def load_sample(self, index: int) -> Sample:
        """Loads a scan; its key is "semantickitti_train/00_000012".

        Raises:
            InputError: the index is out of range, or a file is corrupt.
        """
        sequence, scan = self._place(index)
        name = f"{sequence.folder.absolute().name}_{sequence.scan_name(scan)}"
        return replace(sequence.load_sample(scan), key=f"{self.name}/{name}")

    def describe(self) -> dict[str, Any]:
        """See ``Source``."""
        abouts = {sequence.name: sequence.describe() for sequence in self.sequences}
        truth = {name: about.pop("truth") for name, about in abouts.items()}
        return {"sequences": abouts, "skip": self._skip, "truth": truth}

    def load_raw_class_id(self, index: int) -> NDArray[np.uint16] | None:
        """(N,) labels in SemanticKITTI's own ids, or None for a scan without labels."""
        sequence, scan = self._place(index)
        return sequence.load_raw_class_id(scan)

    def load_scan_fields(self, index: int) -> dict[str, NDArray[np.generic]]:
        """Further columns of the scan: ``instance_id`` (N,) uint16 where there are labels."""
        sequence, scan = self._place(index)
        return sequence.load_scan_fields(scan)

    def _place(self, index: int) -> tuple[SemanticKitti, int]:
        """The sequence of a sample, and the index in it."""
        check_index(index, len(self), self.name)
        scan = index * self._skip
        number = bisect.bisect_right(self._ends, scan)
        return self.sequences[number], scan - (self._ends[number - 1] if number else 0)


def only_sequence(folder: Path) -> Path:
    """The folder of the one sequence a root holds.

    Raises:
        InputError: it holds none or several.
    """
    folders = _sequence_folders(folder)
    if len(folders) == 1:
        return next(iter(folders.values()))
    raise InputError(
        f"{folder} holds {len(folders)} SemanticKITTI sequences; choose one:\n"
        + "\n".join(f"  {path}" for path in folders.values())
        + f"\nor many: semantickitti:{folder}?split=train"
    )


def split_names() -> tuple[str, ...]:
    """Of the official splits."""
    return tuple(yaml.safe_load(SPLITS_FILE.read_text()))


def sequences_of_split(split: str) -> list[str]:
    """Names of the sequences of an official split, "08"."""
    return [str(name) for name in yaml.safe_load(SPLITS_FILE.read_text())[split]]


def _sequence_folders(folder: Path) -> dict[str, Path]:
    if is_semantickitti(folder):
        return {folder.absolute().name: folder}
    for base in (folder, folder / "sequences", folder / "dataset" / "sequences"):
        if found := {path.name: path for path in sorted(base.glob("[0-9][0-9]")) if is_semantickitti(path)}:
            return found
    return {}
