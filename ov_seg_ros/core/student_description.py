"""What a model file knows about itself: everything that was trained and must not be overridden by an operator."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from ov_seg_ros.core.errors import ConfigError, ModelError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.point_features import check_names, uses_color
from ov_seg_ros.core.voxels import VoxelGrid

FORMAT = 1
"""Version of the contract between exporter and runtime: names of the graph inputs, meaning of the features."""
METADATA_KEY = "ov_seg_ros"
"""Key of the JSON text in the ONNX file's metadata_props."""


@dataclass(frozen=True)
class StudentDescription:
    """Metadata of one exported student.

    Attributes:
        name: what the model is called ("synthetic-small").
        label_space: classes in the order of the network's outputs, with palette and texts.
        grid: voxel grid.
        point_features: input columns, names of ``core.point_features``.
        num_levels: resolutions of the U-Net, for ``core.pyramid.build_pyramid``.
        recipe: every setting that trained it (JSON types).
        provenance: where it comes from, what it scored, which versions made it (JSON types).
    """

    name: str
    label_space: LabelSpace
    grid: VoxelGrid
    point_features: tuple[str, ...]
    num_levels: int
    recipe: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_names(self.point_features)
        if self.num_levels < 1:
            raise ConfigError(f"num_levels must be at least 1, got {self.num_levels}")

    @property
    def uses_color(self) -> bool:
        """Whether the network wants camera colours (it works without them, with the validity flag at 0)."""
        return uses_color(self.point_features)

    @property
    def recipe_sha256(self) -> str:
        """Hash of the recipe, the same for the same settings in any key order."""
        return hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """The text stored in the model file."""
        content = {
            "format": FORMAT,
            "name": self.name,
            "label_space": self.label_space.to_dict(),
            "grid": self.grid.to_dict(),
            "point_features": list(self.point_features),
            "num_levels": self.num_levels,
            "recipe": self.recipe,
            "recipe_sha256": self.recipe_sha256,
            "provenance": self.provenance,
        }
        return json.dumps(content, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str = "model") -> StudentDescription:
        """Reads the text stored in a model file.

        Raises:
            ModelError: another format version, a missing or malformed entry, or a recipe that does not fit its hash.
        """
        try:
            content = json.loads(text)
            found = content.get("format")
            if found != FORMAT:
                remedy = (
                    "update ov_seg_ros" if isinstance(found, int) and found > FORMAT else "export the student again"
                )
                raise ModelError(f"{where}: model format {found!r}, this version reads format {FORMAT}: {remedy}")
            description = cls(
                name=str(content["name"]),
                label_space=LabelSpace.from_dict(content["label_space"], where),
                grid=VoxelGrid.from_dict(content["grid"]),
                point_features=tuple(content["point_features"]),
                num_levels=int(content["num_levels"]),
                recipe=dict(content["recipe"]),
                provenance=dict(content["provenance"]),
            )
            if description.recipe_sha256 != content["recipe_sha256"]:
                raise ModelError(f"{where}: the recipe was changed after the export: export the student again")
            return description
        except (AttributeError, KeyError, TypeError, ValueError, ConfigError) as error:
            raise ModelError(f"{where}: its description is malformed ({error!r}): export the student again") from error
