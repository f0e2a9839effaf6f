"""What all stages of one run share: recipe, source, teacher, where results lie and who computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ov_seg_ros.core.errors import ConfigError, InputError
from training.config import RECIPES
from training.dictionary import ClassDictionary
from training.progress import Progress, silent
from training.recipe import Recipe
from training.sharding import Shard, read_shard
from training.sources.protocol import Source
from training.sources.resolve import open_sources
from training.stage_folder import StageFolder, first_difference, plain_settings
from training.student_start import check_student_starts
from training.teacher_choice import TEACHERS, TeacherChoice
from training.teachers.protocol import Teacher

DATA_STAGES = ("label", "lift")


@dataclass(frozen=True)
class Chain:
    """One recipe on one source; can be sent to other processes.

    Attributes:
        recipe: settings of all stages.
        work: folder of the results, one sub-folder per stage.
        open_source: the source; called once per process that reads it.
        dictionary: texts of the teacher.
        build_teacher: the teacher; called where images are labelled, and are not yet.
        part: of this process among those of ``torchrun``.
        processes: on this machine, where ``torchrun`` started only one: for lifting and, without a GPU, training.
        device: to train on, "auto", "cpu" or "cuda".
        backend: that computes the sparse convolutions, see ``training.student.sparse_backends``. Not part of any hash:
            it changes results by rounding only, and a training may go on with another.
        progress: told how far stages are.
        data: folder of the stages up to the labels of the points, which several recipes can share; by default ``work``.
        teacher_request: what ``build_teacher`` builds from, see ``TeacherChoice.describe``; None = not known, so the
            teacher is built even where everything is labelled.
    """

    recipe: Recipe
    work: Path
    open_source: Callable[[], Source]
    dictionary: ClassDictionary
    build_teacher: Callable[[], Teacher]
    part: Shard
    processes: int = 1
    device: str = "auto"
    backend: str = "auto"
    progress: Progress = silent
    data: Path | None = None
    teacher_request: Mapping[str, Any] | None = None

    @classmethod
    def prepare(
        cls, recipe: Recipe, sources: Sequence[str], work: Path, changes: dict[str, object] | None = None
    ) -> Chain:
        """A chain as the command line asks for it.

        Args:
            recipe: see there.
            sources: recordings and data sets, each as ``open_source`` takes it; several become one.
            work: folder of the results.
            changes: of the teacher's settings.

        Raises:
            ConfigError: the recipe's teacher or label space does not exist, the two do not fit each other, a student to
                start from does not fit the recipe, or RANK and WORLD_SIZE contradict each other.
            ModelError: there is no such student.
        """
        named = Path(recipe.teacher)
        choice = TeacherChoice.load(named if named.suffix else TEACHERS / f"{recipe.teacher}.yaml", changes)
        dictionary, space = choice.load_dictionary(), recipe.load_label_space()
        if dictionary.label_space.class_names != space.class_names:
            raise ConfigError(
                f"teacher {recipe.teacher} labels with the classes of {dictionary.label_space.name}, recipe "
                f"{recipe.name} has those of {space.name}: choose a teacher or dictionary for {space.name}"
            )
        check_student_starts(recipe)
        opener, request = partial(open_sources, tuple(sources)), choice.describe()
        return cls(recipe, work, opener, dictionary, choice.build, read_shard(), teacher_request=request)

    def quiet(self) -> Chain:
        """The same without progress, for further processes."""
        return replace(self, progress=silent)

    def folder(self, stage: str) -> Path:
        """Of one stage."""
        return (self.data or self.work if stage in DATA_STAGES else self.work) / stage

    def finished(self, stage: str, settings: Any) -> StageFolder:
        """The result of an earlier stage.

        Args:
            stage: its name.
            settings: that the recipe wants it to be made with.

        Raises:
            InputError: it is not there, not finished, or made with other settings, the first of which is named.
        """
        found = StageFolder.load(self.folder(stage)).require_complete()
        if difference := first_difference({"settings": found.settings}, {"settings": plain_settings(settings)}):
            key, came, expected = difference
            raise InputError(
                f"{found.path} was made with {key} = {came}, recipe {self.recipe.name} says {expected}; delete the "
                f"folder and run {stage} again, or use the recipe that it was made with"
            )
        return found


def recipe_path(name: str) -> Path:
    """A recipe by its path, or by its name among those that come along."""
    path = Path(name)
    return path if path.suffix else RECIPES / f"{name}.yaml"
