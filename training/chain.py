"""What all stages of one run share: recipe, source, teacher, where results lie and who computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from training.config import RECIPES
from training.dictionary import ClassDictionary
from training.recipe import Recipe
from training.sharding import Shard, read_shard
from training.sources.protocol import Source
from training.sources.resolve import open_source
from training.teacher_choice import TEACHERS, TeacherChoice
from training.teachers.protocol import Teacher

DATA_STAGES = ("label", "lift")

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


def silent(_stage: str, _done: int, _total: int) -> None:
    """Progress of processes that have none to show."""


@dataclass(frozen=True)
class Chain:
    """One recipe on one source; can be sent to other processes.

    Attributes:
        recipe: settings of all stages.
        work: folder of the results, one sub-folder per stage.
        open_source: the source; called once per process that reads it.
        dictionary: texts of the teacher.
        build_teacher: the teacher; called where images are labelled.
        part: of this process among those of ``torchrun``.
        processes: on this machine, where ``torchrun`` started only one: for lifting and, without a GPU, training.
        device: to train on, "auto", "cpu" or "cuda".
        progress: told how far stages are.
        data: folder of the stages up to the labels of the points, which several recipes can share; by default ``work``.
    """

    recipe: Recipe
    work: Path
    open_source: Callable[[], Source]
    dictionary: ClassDictionary
    build_teacher: Callable[[], Teacher]
    part: Shard
    processes: int = 1
    device: str = "auto"
    progress: Progress = silent
    data: Path | None = None

    @classmethod
    def prepare(cls, recipe: Recipe, source: str, work: Path, changes: dict[str, object] | None = None) -> Chain:
        """A chain as the command line asks for it.

        Args:
            recipe: see there.
            source: recording or data set, as ``open_source`` takes it.
            work: folder of the results.
            changes: of the teacher's settings.

        Raises:
            ConfigError: the recipe's teacher does not exist, or RANK and WORLD_SIZE contradict each other.
        """
        named = Path(recipe.teacher)
        choice = TeacherChoice.load(named if named.suffix else TEACHERS / f"{recipe.teacher}.yaml", changes)
        return cls(recipe, work, partial(open_source, source), choice.load_dictionary(), choice.build, read_shard())

    def quiet(self) -> Chain:
        """The same without progress, for further processes."""
        return replace(self, progress=silent)

    def folder(self, stage: str) -> Path:
        """Of one stage."""
        return (self.data or self.work if stage in DATA_STAGES else self.work) / stage


def recipe_path(name: str) -> Path:
    """A recipe by its path, or by its name among those that come along."""
    path = Path(name)
    return path if path.suffix else RECIPES / f"{name}.yaml"
