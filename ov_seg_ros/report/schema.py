"""JSON schema of ``report.json`` (draft 2020-12)."""

from __future__ import annotations

from typing import Any

COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
MILLISECONDS: dict[str, Any] = {"type": ["number", "null"]}
SHARE: dict[str, Any] = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
PERCENTILES: dict[str, Any] = {
    "type": "object",
    "required": ["p50", "p90", "p99"],
    "properties": {"p50": MILLISECONDS, "p90": MILLISECONDS, "p99": MILLISECONDS},
}
CONFUSION: dict[str, Any] = {
    "description": "rows truth, columns prediction, one extra last column: unknown",
    "type": "array",
    "items": {"type": "array", "items": COUNT},
}
ACCURACY_KEYS: dict[str, Any] = {
    "miou": {"description": "mean over the classes the truth holds", **SHARE},
    "iou": {"type": "object", "additionalProperties": SHARE},
    "confusion": CONFUSION,
}
ACCURACY_PART: dict[str, Any] = {
    "type": "object",
    "required": ["points", "miou", "iou", "confusion"],
    "properties": {"points": COUNT, **ACCURACY_KEYS},
}

REPORT_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "ov_seg_ros report",
    "type": "object",
    "required": [
        "schema_version",
        "scans_in",
        "scans_labelled",
        "scans_dropped",
        "scans_lost",
        "points",
        "latency_ms",
        "provider",
        "model",
        "label_histogram",
        "cameras",
        "notes",
        "command",
        "bag",
        "date",
        "machine",
        "versions",
    ],
    "properties": {
        "schema_version": {"const": 1},
        "scans_in": COUNT,
        "scans_labelled": COUNT,
        "scans_dropped": COUNT,
        "scans_lost": {"description": "in - labelled - dropped; 0 when the books balance", "type": "integer"},
        "points": COUNT,
        "latency_ms": {
            "type": "object",
            "required": ["p50", "p90", "p99", "measured", "stages"],
            "properties": {
                **PERCENTILES["properties"],
                "measured": {"type": "string"},
                "stages": {"type": "object", "additionalProperties": PERCENTILES},
            },
        },
        "provider": {"type": "string", "minLength": 1},
        "model": {
            "type": "object",
            "required": ["sha256", "classes"],
            "properties": {
                "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                "classes": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                "about": {"type": "object"},
            },
        },
        "label_histogram": {"type": "object", "additionalProperties": COUNT},
        "cameras": {"type": "array", "items": {"type": "string"}},
        "notes": {"type": "array", "items": {"type": "string"}},
        "command": {"type": "string"},
        "bag": {"type": "string"},
        "date": {"type": "string"},
        "machine": {"type": "object"},
        "versions": {"type": "object", "additionalProperties": {"type": "string"}},
        "points_with_truth": COUNT,
        **ACCURACY_KEYS,
        "seen": ACCURACY_PART,
        "unseen": ACCURACY_PART,
    },
    "dependentRequired": {"miou": ["iou", "confusion", "points_with_truth"], "unseen": ["seen", "miou"]},
    "additionalProperties": False,
}
"""What ``RunReport.to_dict`` promises; keys of the accuracy are there only with ground truth."""
