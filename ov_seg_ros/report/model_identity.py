"""What a report says about the student."""

from __future__ import annotations

from ov_seg_ros.core.student_description import StudentDescription
from ov_seg_ros.report.run_report import ModelIdentity


def identify(description: StudentDescription, sha256: str) -> ModelIdentity:
    """Identity of a student from its own metadata.

    Args:
        description: metadata of the model file.
        sha256: of the model file, hexadecimal.
    """
    about = {
        "name": description.name,
        "label_space": description.label_space.name,
        "grid": description.grid.to_dict(),
        "point_features": list(description.point_features),
        "uses_color": description.uses_color,
        "recipe": description.recipe,
        "recipe_sha256": description.recipe_sha256,
        "provenance": description.provenance,
    }
    return ModelIdentity(sha256, description.label_space.class_names, about)
