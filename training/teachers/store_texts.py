"""Which text of a dictionary each text of a stored result is."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.errors import InputError
from training.dictionary import ClassDictionary
from training.teachers.segment_files import load_json


def find_beside(folder: Path, *names: str) -> Path | None:
    """The first of the files that lies in the folder or, failing that, in the one above it; None if none does."""
    places = (folder, folder.parent)
    return next((place / name for place in places for name in names if (place / name).is_file()), None)


def load_texts(path: Path) -> tuple[str, ...]:
    """Texts in the order of their ids: a JSON list, or an object {"0": "road", ...} of which gaps become "".

    Raises:
        InputError: neither.
    """
    content = load_json(path)
    if not content:
        raise InputError(f"{path} lists no texts")
    if isinstance(content, list) and all(isinstance(text, str) for text in content):
        return tuple(content)
    try:
        by_id = {int(number): str(text) for number, text in content.items()}
    except (AttributeError, ValueError) as error:
        raise InputError(f'{path} must be a list of texts, or {{"0": "road", ...}}, got {_shorten(content)}') from error
    by_id.pop(IGNORE_ID, None)
    return tuple(by_id.get(number, "") for number in range(max(by_id, default=-1) + 1))


def match_texts(texts: Sequence[str], dictionary: ClassDictionary, where: str) -> NDArray[np.int32]:
    """Index into the dictionary's texts for each stored text, by name.

    The very list of the dictionary is taken as it is, so a dictionary may hold a text twice. Capitals and spaces at the
    ends do not count; an empty text (an id that means nothing) becomes -1.

    Args:
        texts: S texts.
        dictionary: T texts.
        where: they come from, for the message.

    Returns:
        (S,) int32 in -1..T - 1.

    Raises:
        InputError: a text the dictionary lacks, or one that stands in it twice for different classes.
    """
    if tuple(texts) == dictionary.texts:
        return np.arange(len(texts), dtype=np.int32)
    places: dict[str, list[int]] = {}
    for number, text in enumerate(dictionary.texts):
        places.setdefault(_plain(text), []).append(number)
    if missing := [text for text in texts if _plain(text) and _plain(text) not in places]:
        near = difflib.get_close_matches(_plain(missing[0]), places, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise InputError(
            f"{where}: {len(missing)} of {len(texts)} texts are not in dictionary {dictionary.name}, the first is "
            f"{missing[0]!r}{hint}; add them, as texts of a group with `class: null` if they shall be ignored"
        )
    for text in texts:
        if len({int(dictionary.text_class[n]) for n in places.get(_plain(text), [])}) > 1:
            raise InputError(
                f"{where}: {text!r} stands in dictionary {dictionary.name} twice, for different classes; "
                "use the dictionary that the results were made with, or remove one of the two"
            )
    return np.array([places[_plain(text)][0] if _plain(text) else -1 for text in texts], np.int32)


def check_dictionary_hash(content: Any, dictionary: ClassDictionary, path: Path) -> None:
    """Compares the dictionary named in a ``teacher.json`` with the one in use.

    Raises:
        InputError: both hashes, where they differ.
    """
    stored = content.get("dictionary") if isinstance(content, dict) else None
    stored = stored.get("hash") if isinstance(stored, dict) else stored
    if stored is not None and stored != dictionary.hash:
        raise InputError(
            f"{path}: these segments were made with a dictionary of hash {stored}, dictionary {dictionary.name} has "
            f"{dictionary.hash}; use the dictionary they were made with, or label again"
        )


def _plain(text: str) -> str:
    return text.strip().lower()


def _shorten(content: Any) -> str:
    text = repr(content)
    return text if len(text) <= 60 else f"{text[:57]}..."
