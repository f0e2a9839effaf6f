"""Text vectors on disk: a cache that refuses what it was not made for, and matrices that other exporters wrote."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.errors import InputError, MissingDependencyError
from training.dictionary import ClassDictionary
from training.teachers.text_encoder import TextEncoder, encode_texts, normalize_rows


def cached_text_features(encoder: TextEncoder, dictionary: ClassDictionary, folder: Path) -> NDArray[np.float32]:
    """``encode_texts`` for a dictionary, computed once per encoder, texts and templates.

    The file is named by what made it, so that several dictionaries and encoders share a folder.

    Returns:
        (T, D) float32 unit vectors.

    Raises:
        InputError: the file of that name holds something else or is damaged; delete it.
    """
    made_of = {"encoder": encoder.describe(), "texts": dictionary.texts, "templates": dictionary.templates}
    path = folder / f"{dictionary.name}-{_key(made_of)[:16]}.npz"
    if path.is_file():
        return read_text_features(path, made_of)
    features = encode_texts(encoder, dictionary.texts, dictionary.templates)
    write_text_features(path, features, made_of)
    return features


def write_text_features(path: Path, features: NDArray[np.float32], made_of: dict[str, Any]) -> None:
    """Writes vectors and what made them; a reader never sees half a file.

    Args:
        path: of the .npz file.
        features: (T, D) float32.
        made_of: JSON types; ``read_text_features`` must be given the same.

    Raises:
        InputError: the file cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            np.savez(file, features=features, made_of=np.array(json.dumps(made_of, sort_keys=True)))
        unfinished.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise InputError(f"text vectors cannot be written to {path}: {error}; free space or choose a folder") from error


def read_text_features(path: Path, made_of: dict[str, Any]) -> NDArray[np.float32]:
    """(T, D) float32 of ``write_text_features``.

    Raises:
        InputError: damaged, or made by another encoder, of other texts or with other templates.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            features, found = content["features"], json.loads(str(content["made_of"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"text vectors {path} cannot be read ({error}); delete the file, it is made again") from error
    wanted = json.loads(json.dumps(made_of))
    if stale := sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k)):
        raise InputError(f"text vectors {path} are stale, made with other {', '.join(stale)}; delete the file")
    return normalize_rows(features, [str(text) for text in wanted.get("texts", range(len(features)))])


def load_text_features(path: Path, texts: int | None = None) -> NDArray[np.float32]:
    """A stored text matrix, such as the ``text_embedding.pt`` beside masks that AFOV exported.

    Args:
        path: .npy, .pt or .pth, one row per text.
        texts: how many texts the dictionary has. One row more is taken for the void vector that FC-CLIP appends, and
            dropped, as AFOV does.

    Returns:
        (T, D) float32 unit vectors.

    Raises:
        InputError: no such file, not a matrix, another number of rows, or rows that are zero, NaN or infinite.
    """
    matrix = _load_matrix(path)
    if matrix.ndim != 2 or matrix.dtype.kind != "f":
        raise InputError(f"{path}: expected a (texts, D) matrix of floats, got {matrix.dtype} of shape {matrix.shape}")
    if texts is not None and len(matrix) == texts + 1:
        matrix = matrix[:texts]
    if texts is not None and len(matrix) != texts:
        raise InputError(
            f"{path}: {len(matrix)} rows for a dictionary of {texts} texts; use the dictionary that it was made with"
        )
    try:
        return normalize_rows(matrix, [f"row {i}" for i in range(len(matrix))])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _load_matrix(path: Path) -> NDArray[Any]:
    if not path.is_file():
        raise InputError(f"text matrix {path} does not exist")
    try:
        if path.suffix == ".npy":
            matrix = np.load(path, allow_pickle=False)
        elif path.suffix in (".pt", ".pth"):
            matrix = _load_tensor(path)
        else:
            raise InputError(f"{path}: text matrices are .npy, .pt or .pth files")
    except InputError:
        raise
    except Exception as error:  # torch and pickle raise whatever a damaged file makes them
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"text matrix {path} cannot be read: {reason}") from error
    return np.asarray(matrix)


def _load_tensor(path: Path) -> NDArray[Any]:
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError("torch", "pip install torch", f"Reading {path.name}") from error
    tensor = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(tensor, torch.Tensor):
        raise InputError(f"{path}: expected one tensor, got {type(tensor).__name__}")
    return tensor.detach().float().numpy() if tensor.is_floating_point() else tensor.numpy()


def _key(made_of: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
