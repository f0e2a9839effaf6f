"""Checks a class dictionary: which texts are ambiguous, which classes and groups say nothing.

Reading a dictionary refuses what cannot be meant; this finds what can be meant and still be a mistake.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.errors import InputError
from training.dictionary import ClassDictionary

CLOSE_COSINE = 0.93
"""Of the 14,535 pairs among 171 names of COCO-Stuff (CLIP ViT-B/16, 15 templates) half lie above 0.81, one in a
hundred above 0.906; car and truck have 0.938, bicycle and motorcycle 0.936, apple and fruit 0.938. These figures are
checked by ``test/training/teachers/test_text_features.py``, on vectors that CLIP made."""


@dataclass(frozen=True)
class Finding:
    """Something about a dictionary that its author should know.

    Attributes:
        kind: "same_text", "similar_text", "names_other_class", "close_vectors", "class_without_text", "sink" or
            "no_sink".
        level: "warning" where a label may come out wrong, "note" otherwise.
        message: one sentence.
        texts: the texts it is about; may be empty.
        cosine: of their vectors, for "close_vectors".
    """

    kind: str
    level: str
    message: str
    texts: tuple[str, ...] = ()
    cosine: float | None = None

    def __str__(self) -> str:
        return f"{self.level}: {self.message}"


def check_dictionary(
    dictionary: ClassDictionary,
    text_features: NDArray[np.float32] | None = None,
    close_cosine: float = CLOSE_COSINE,
) -> list[Finding]:
    """What is ambiguous, unmapped or ignored in a dictionary; warnings first.

    Args:
        dictionary: to check.
        text_features: (T, D) unit vectors of its texts; with them, texts of different classes that a text encoder
            hardly tells apart are found too, closest first.
        close_cosine: from which cosine on.

    Raises:
        InputError: there is not one vector per text.
    """
    findings = [
        *_equal_texts(dictionary),
        *_names_of_other_classes(dictionary),
        *_close_vectors(dictionary, text_features, close_cosine),
        *_silent_classes(dictionary),
        *_sinks(dictionary),
    ]
    return sorted(findings, key=lambda finding: finding.level != "warning")


def spelling_key(text: str) -> str:
    """What remains of a text without case, punctuation, spaces, a leading article and the plural of its last word.

    >>> spelling_key("The Mini-vans") == spelling_key("mini van")
    True
    """
    words = re.sub(r"[^\w]|_", " ", text.casefold()).split()
    if len(words) > 1 and words[0] in ("a", "an", "the"):
        words = words[1:]
    if not words:
        return text
    return "".join([*words[:-1], _singular(words[-1])])


def _singular(word: str) -> str:
    """Equal for the singular and the plural of a regular noun (bus, buses; house, houses), not always a word."""
    if re.fullmatch(r"\w{2,}ies", word):
        return f"{word[:-3]}y"
    if found := re.fullmatch(r"(\w+(?:s|x|z|ch|sh))es?", word):
        return found[1]
    return word[:-1] if re.fullmatch(r"\w{2,}[^sui]s", word) else word


def _equal_texts(dictionary: ClassDictionary) -> Iterator[Finding]:
    """Texts that are equal, or equal but for their spelling; every pair of neighbours in such a set once."""
    rows: dict[str, list[int]] = {}
    for text_id, text in enumerate(dictionary.texts):
        rows.setdefault(spelling_key(text), []).append(text_id)
    for ids in rows.values():
        for first, second in itertools.pairwise(ids):
            yield _equal_pair(dictionary, first, second)


def _equal_pair(dictionary: ClassDictionary, first: int, second: int) -> Finding:
    a, b = dictionary.texts[first], dictionary.texts[second]
    same = a == b
    subject = f"{a!r} stands twice" if same else f"{a!r} and {b!r} differ in spelling only"
    group_a, group_b = (dictionary.groups[dictionary.text_group[i]] for i in (first, second))
    kind, texts = ("same_text" if same else "similar_text"), (a, b)
    if group_a == group_b:
        return Finding(kind, "note", f"{subject}, both in the group {group_a!r}; one is enough", texts)
    where = f"in the groups {group_a!r} and {group_b!r}"
    if dictionary.text_class[first] == dictionary.text_class[second]:
        return Finding(kind, "note", f"{subject}, {where}, which mean the same", texts)
    meanings = f"{_meaning(dictionary, first)} and {_meaning(dictionary, second)}"
    remedy = "a teacher always answers the first; keep it where it is meant" if same else "a teacher answers either"
    return Finding(kind, "warning", f"{subject}, {where}, which mean {meanings}; {remedy}", texts)


def _names_of_other_classes(dictionary: ClassDictionary) -> Iterator[Finding]:
    names = {spelling_key(name): i for i, name in enumerate(dictionary.label_space.class_names)}
    for text_id, text in enumerate(dictionary.texts):
        named = names.get(spelling_key(text))
        if named is not None and named != dictionary.text_class[text_id]:
            name = dictionary.label_space.class_names[named]
            message = f"{text!r} means {_meaning(dictionary, text_id)} although there is a class {name!r}"
            yield Finding("names_other_class", "warning", message, (text,))


def _close_vectors(
    dictionary: ClassDictionary, features: NDArray[np.float32] | None, threshold: float
) -> Iterator[Finding]:
    if features is None:
        return
    if features.ndim != 2 or len(features) != len(dictionary):
        raise InputError(f"{len(dictionary)} texts need as many vectors, got an array of shape {features.shape}")
    cosine = features @ features.T
    classes = dictionary.text_class
    close = np.triu((cosine > threshold) & (classes[:, None] != classes[None]), 1)
    pairs = sorted(np.argwhere(close).tolist(), key=lambda pair: -cosine[pair[0], pair[1]])
    for first, second in pairs:
        a, b = dictionary.texts[first], dictionary.texts[second]
        value = float(cosine[first, second])
        if spelling_key(a) != spelling_key(b):
            meanings = f"{_meaning(dictionary, first)} and {_meaning(dictionary, second)}"
            message = f"{a!r} and {b!r} mean {meanings}, but their vectors are close (cosine {value:.3f})"
            yield Finding("close_vectors", "warning", message, (a, b), value)


def _silent_classes(dictionary: ClassDictionary) -> Iterator[Finding]:
    for class_id, name in enumerate(dictionary.label_space.class_names):
        if class_id not in dictionary.text_class:
            message = f"class {name!r} has no text: no teacher will ever label it"
            yield Finding("class_without_text", "warning", message)


def _sinks(dictionary: ClassDictionary) -> Iterator[Finding]:
    if IGNORE_ID not in dictionary.text_class:
        message = "there is no sink: sky, the own vehicle and every unknown thing will be labelled as some class"
        yield Finding("no_sink", "note", message)
    for group, class_id in enumerate(dictionary.group_class):
        if class_id == IGNORE_ID:
            texts = tuple(dictionary.texts[t] for t in np.flatnonzero(dictionary.text_group == group))
            message = f"{', '.join(texts)}: sink {dictionary.groups[group]!r}, becomes no label"
            yield Finding("sink", "note", message, texts)


def _meaning(dictionary: ClassDictionary, text_id: int) -> str:
    class_id = int(dictionary.text_class[text_id])
    return "no label" if class_id == IGNORE_ID else repr(dictionary.label_space.class_names[class_id])
