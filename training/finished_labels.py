"""A finished label stage, recognised without its teacher: loading one takes gigabytes and minutes for nothing.

What a teacher says of itself, and so what the stage was made with, is known only once its network is loaded. Beside the
result therefore lies a note of what that teacher was built from; who builds from the same needs no teacher to go on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.atomic_files import write_json
from training.dictionary import ClassDictionary
from training.labelling_run import STAGE, LabellingResult, source_identity, still_there
from training.sample_journal import read_journals
from training.sharding import Shard, shard
from training.sources.protocol import Source
from training.stage_folder import STAGE_FILE, StageFolder
from training.teachers.segment_store import SegmentStore

REQUEST_FILE = "request.json"
"""{hash: of the stage, request: what its teacher was built from}"""


def remember_request(result: LabellingResult, request: Mapping[str, Any] | None) -> None:
    """Notes what the teacher of a finished stage was built from.

    Args:
        result: of the stage; nothing is noted unless it is complete.
        request: see ``TeacherChoice.describe``; None = not known, so nothing is noted.

    Raises:
        StorageFullError: the disk is full.
    """
    if request is not None and result.folder.complete:
        note = {"hash": result.folder.hash, "request": dict(request)}
        write_json(result.folder.path / REQUEST_FILE, note, shared=True)


def find_finished(
    folder: Path, source: Source, dictionary: ClassDictionary, request: Mapping[str, Any] | None, part: Shard
) -> LabellingResult | None:
    """The result of a label stage that is done.

    Args:
        folder: of the stage.
        source: that it must be of.
        dictionary: of the teacher.
        request: what a teacher would be built from; None = not known.
        part: of this process.

    Returns:
        None where a teacher is needed after all: to label what is missing, to try skipped samples again, or to find out
        whether it is the one that made this result.

    Raises:
        InputError: the folder was made of another source, or it is damaged.
    """
    if not (folder / STAGE_FILE).exists():
        return None
    stage = StageFolder.load(folder)
    if stage.stage == STAGE and "source" in stage.settings:
        # refuses another source before any weights are loaded
        StageFolder.open(folder, STAGE, {**stage.settings, "source": source_identity(source)}, stage.inputs)
    if not stage.complete or request is None or not _built_from(folder, stage.hash, request):
        return None
    entries = read_journals(folder)
    if len(still_there(entries, SegmentStore.open(folder, dictionary))) < len(source):
        return None
    return LabellingResult(stage, 0, len(shard(range(len(source)), part.rank, part.world)), (), 0)


def _built_from(folder: Path, stage_hash: str, request: Mapping[str, Any]) -> bool:
    """Whether the note says so; files that are no longer there cannot contradict it."""
    try:
        note = json.loads((folder / REQUEST_FILE).read_text())
        made, before = dict(note["request"]), str(note["hash"])
    except (OSError, ValueError, KeyError, TypeError):
        return False  # of an older version, or damaged: the teacher itself will tell
    now = json.loads(json.dumps(request))
    have, want = made.pop("files", {}), now.pop("files", {})
    return before == stage_hash and made == now and all(have.get(name) == files for name, files in want.items())
