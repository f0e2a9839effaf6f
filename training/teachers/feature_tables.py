"""Tables of feature vectors as NumPy or torch files: one row per segment, or per text."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.errors import InputError, MissingDependencyError

Variant = Literal["out_vocab", "in_vocab"]

VARIANTS: dict[str, int] = {"in_vocab": 0, "out_vocab": 1}
"""Position in the pair of tables that AFOV's FC-CLIP exporter stores: its trained head, and the frozen CLIP map."""

SUFFIXES = (".npy", ".pt")


def find_table(stem: Path) -> Path | None:
    """``<stem>.npy`` or ``<stem>.pt``, whichever exists; None if neither does."""
    return next((path for s in SUFFIXES if (path := stem.with_name(stem.name + s)).is_file()), None)


def load_table(path: Path, variant: Variant = "out_vocab") -> NDArray[np.float32]:
    """Reads a table of vectors.

    Args:
        path: ``.npy``, or ``.pt`` with a tensor or with a list of the in-vocabulary and the out-vocabulary tensor.
        variant: which of such a pair.

    Returns:
        (rows, D) float32, as stored: not normalised.

    Raises:
        InputError: the file is missing, damaged, not two-dimensional or holds NaN.
        MissingDependencyError: a ``.pt`` file without torch.
    """
    try:
        content = _load_torch(path) if path.suffix == ".pt" else np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"feature table {path} does not exist") from error
    except (OSError, ValueError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise InputError(f"feature table {path} cannot be read ({error}); copy it again, or label again") from error
    if isinstance(content, list | tuple):
        if len(content) != len(VARIANTS):
            raise InputError(f"{path} holds {len(content)} tables, expected one, or a pair (in-vocab, out-vocab)")
        content = content[VARIANTS[variant]]
    table = content.detach().float().cpu().numpy() if hasattr(content, "detach") else content
    if not isinstance(table, np.ndarray) or table.ndim != 2 or table.dtype.kind != "f":
        found = f"{table.dtype} {table.shape}" if isinstance(table, np.ndarray) else type(table).__name__
        raise InputError(f"{path} must hold floating point numbers of shape (rows, D), got {found}")
    table = table.astype(np.float32, copy=False)
    if not np.isfinite(table).all():
        row = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
        raise InputError(f"{path}: row {row} holds NaN or infinite values; the teacher failed there, label it again")
    return table


def encode_table(features: NDArray[np.float32]) -> bytes:
    """(R, D) features of segments as the bytes of a float16 ``.npy`` (R + 1, D) whose row 0 (void) is zeros."""
    table = np.zeros((len(features) + 1, features.shape[1]), np.float16)
    table[1:] = features
    return encode_array(table)


def encode_array(array: NDArray[Any]) -> bytes:
    """An array as the bytes of a ``.npy``."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def unit_rows(table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1; a row of zeros stays one."""
    length = np.linalg.norm(table.astype(np.float64), axis=1, keepdims=True)
    return np.divide(table, length, out=np.zeros_like(table), where=length > 0, casting="unsafe")


def _load_torch(path: Path) -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingDependencyError("torch", "pip install torch", f"reading {path}") from error
    return torch.load(path, map_location="cpu", weights_only=True)
