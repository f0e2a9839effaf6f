"""The JSON tables of nuScenes, read row by row: the largest ones hold 2.6 million rows and more than a gigabyte."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ov_seg_ros.core.errors import InputError

Row = dict[str, Any]

CHUNK = 1 << 22
"""Characters read at once; no row is nearly as long."""

_GAP = re.compile(r"[\s,\[]*")


def read_rows(path: Path) -> Iterator[Row]:
    """Rows of a table, one at a time, with no more than a few megabytes in memory.

    Args:
        path: a JSON list of objects.

    Raises:
        InputError: the table is missing, cut off or no such list.
    """
    try:
        with path.open(encoding="utf-8") as file:
            yield from _decode(iter(lambda: file.read(CHUNK), ""))
    except FileNotFoundError as error:
        raise InputError(f"nuScenes table {path} is missing; unpack the metadata archive again") from error
    except ValueError as error:
        raise InputError(f"nuScenes table {path} is damaged ({error}); unpack the metadata archive again") from error


def _decode(chunks: Iterator[str]) -> Iterator[Row]:
    """Objects of a JSON list that comes in pieces; ValueError where it is none."""
    decode = json.JSONDecoder().raw_decode
    text, position = next(chunks, ""), 0
    if not text.lstrip().startswith("["):
        raise ValueError("it does not begin with [")
    while True:
        position = _GAP.match(text, position).end()  # type: ignore[union-attr]  # it matches the empty string
        if text.startswith("]", position):
            return
        try:
            row, position = decode(text, position)
        except ValueError:
            more = next(chunks, "")
            if not more or len(text) - position > CHUNK:
                raise
            text, position = text[position:] + more, 0
            continue
        if not isinstance(row, dict):
            raise ValueError(f"expected rows {{...}}, got {row!r}")
        yield row


def column(row: Row, name: str, table: Path) -> Any:
    """An entry of a row.

    Raises:
        InputError: the row has none of that name.
    """
    try:
        return row[name]
    except KeyError as error:
        raise InputError(f"{table}: row {row.get('token', '?')} has no {name!r}; unpack the metadata again") from error
