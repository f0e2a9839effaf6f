"""Settings of AFI: every constant of the method, the accidents of its released code, and who is ground or object."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.label_space import LabelSpace

GROUND_NAMES = (
    *("driveable_surface", "other_flat", "sidewalk", "terrain"),  # nuScenes
    *("road", "parking", "other-ground", "other_ground"),  # SemanticKITTI
    "floor",  # ScanNet, S3DIS
)
"""Classes taken for ground unless ``AfiConfig.ground_classes`` names others."""

OBJECT_NAMES = (
    *("barrier", "bicycle", "bus", "car", "construction_vehicle", "motorcycle", "pedestrian", "traffic_cone"),
    *("trailer", "truck"),  # nuScenes up to here
    *("other-vehicle", "other_vehicle", "person", "bicyclist", "motorcyclist"),  # SemanticKITTI
    *("chair", "sofa", "table", "bed", "bookshelf", "bookcase", "desk", "toilet", "sink", "bathtub", "refrigerator"),
)
"""Classes taken for objects unless ``AfiConfig.object_classes`` names others."""


@dataclass(frozen=True)
class AfiConfig:
    """Settings of ``refine_afi``; the defaults of the fields are the constants of AFOV's released code.

    ``AfiConfig.default()`` is what to use, ``AfiConfig.released()`` what to compare with the paper.

    Attributes:
        base_count: the level sizes are this, divided by ``decimation`` once per stage.
        decimation: how many times fewer points each level has.
        num_stages: levels above the scan.
        exact_thirds: choose level sizes that divide exactly (1377, 459, 153, 51) instead of
            dividing integers (1365, 455, 151, 50).
        num_neighbors: nearest points of the finer level that a centre gathers votes from, itself included.
        num_decoder_neighbors: nearest points of the coarser level that a point takes votes from.
        num_directions: directions on the sphere that neighbours are sorted into.
        min_count: directions with at most this many neighbours carry no weight in the first stage.
        min_cosine: how well structure must lie on the line between two points to carry votes along it (gamma).
        weighted_votes: neighbours vote with their share of the line structure; as released, all alike.
        keep_weight: weight of a centre's own vote in the pooling.
        skip_weight: weight of a point's own vote on the way back to the finer level, in units of the mean
            weight of the votes from the coarser level, where the finer level has exactly ``decimation`` times
            the points of the coarser one.
        skip_weight_inexact: the same where it has not: on the last step to the scan always, and with the
            released level sizes on all but one of the others.
        near_ground: flat ground around the vehicle takes no part in the voting, and its points may only
            become ground.
        sensor_height: of the LiDAR above the ground, metres.
        ground_clearance: points lower than this above the ground may be ground, metres (released: z < -1.4 m).
        ground_radius: horizontal range up to which ground is sought, metres.
        ego_radius: points at or below this horizontal range cast no vote, metres.
        ground_tolerance: distance from the plane along z up to which a point belongs to it, metres.
        ransac_samples: points that each candidate plane is fitted to; with fewer candidates there is no plane.
        ransac_trials: candidate planes.
        assist_odds: odds of taking the label of an image over the label of the scan at range 0 (beta).
        assist_range: range where both are as likely, metres (d0).
        ground_classes: names of the ground classes; empty = those of ``GROUND_NAMES`` in the label space.
        object_classes: names of the classes that images may give; empty = those of ``OBJECT_NAMES``.
    """

    base_count: int = 4096
    decimation: int = 3
    num_stages: int = 4
    exact_thirds: bool = False
    num_neighbors: int = 20
    num_decoder_neighbors: int = 6
    num_directions: int = 20
    min_count: int = 0
    min_cosine: float = 0.995
    weighted_votes: bool = False
    keep_weight: float = 0.1
    skip_weight: float = 0.3
    skip_weight_inexact: float = 0.01
    near_ground: bool = True
    sensor_height: float = 1.84
    ground_clearance: float = 0.44
    ground_radius: float = 5.0
    ego_radius: float = 2.0
    ground_tolerance: float = 0.1
    ransac_samples: int = 10
    ransac_trials: int = 20
    assist_odds: float = 4.0
    assist_range: float = 20.0
    ground_classes: tuple[str, ...] = ()
    object_classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _refuse_below(self, 1, "base_count", "num_stages", "num_neighbors", "num_decoder_neighbors", "ransac_trials")
        _refuse_below(self, 2, "decimation", "num_directions")
        _refuse_below(self, 3, "ransac_samples")
        _refuse_below(self, 0, "min_count", "keep_weight", "skip_weight", "skip_weight_inexact", "ego_radius")
        _refuse_below(self, 0, "ground_radius", "ground_tolerance", "sensor_height")
        if not 0 <= self.min_cosine < 1:
            raise ConfigError(f"afi: min_cosine must be in [0, 1), got {self.min_cosine}")
        if not (self.assist_odds > 1 and self.assist_range > 0):
            raise ConfigError(
                f"afi: assist_odds must be > 1 and assist_range > 0 m, got {self.assist_odds} and {self.assist_range} m"
            )

    @classmethod
    def released(cls) -> AfiConfig:
        """The method as AFOV's code runs it on nuScenes."""
        return cls()

    @classmethod
    def default(cls) -> AfiConfig:
        """Gentler: one stage of many centres, more weight for own votes, no rule for the ground beside the vehicle.

        Chosen on four synthetic drives; docs/afi.md compares it with the released constants on others.
        """
        return cls(
            base_count=24576,
            num_stages=1,
            num_neighbors=10,
            skip_weight_inexact=0.1,
            near_ground=False,
            ego_radius=0.0,
        )

    def level_sizes(self, num_points: int) -> tuple[int, ...]:
        """Number of points per level, finest first, beginning with the scan itself.

        Example:
            ``AfiConfig.released().level_sizes(34000) == (34000, 1365, 455, 151, 50)``
        """
        sizes = [num_points]
        coarsest = max(1, round(self.base_count / self.decimation**self.num_stages))
        wanted = self.base_count
        for stage in range(1, self.num_stages + 1):
            exact = coarsest * self.decimation ** (self.num_stages - stage)
            wanted = max(1, wanted // self.decimation)
            sizes.append(min(exact if self.exact_thirds else wanted, sizes[-1]))
        return tuple(sizes)

    def skip_weight_between(self, fine: int, coarse: int) -> float:
        """Weight of a point's own vote on the way from a level of ``coarse`` points to one of ``fine`` points."""
        return self.skip_weight if fine == self.decimation * coarse else self.skip_weight_inexact

    def ground_mask(self, label_space: LabelSpace) -> NDArray[np.bool_]:
        """(C,) which classes are ground.

        Raises:
            ConfigError: a name in ``ground_classes`` is no class; or none is ground, yet ``near_ground`` is set.
        """
        mask = _mask(label_space, self.ground_classes, GROUND_NAMES, "ground_classes")
        if self.near_ground and not mask.any():
            raise ConfigError(
                f"afi: label space {label_space.name!r} has no class that is known as ground:"
                " name them in ground_classes, or set near_ground to false"
            )
        return mask

    def object_mask(self, label_space: LabelSpace) -> NDArray[np.bool_]:
        """(C,) which classes an image may give.

        Raises:
            ConfigError: a name in ``object_classes`` is no class, or none is an object.
        """
        mask = _mask(label_space, self.object_classes, OBJECT_NAMES, "object_classes")
        if not mask.any():
            raise ConfigError(
                f"afi: label space {label_space.name!r} has no class that is known as an object:"
                " name them in object_classes, or give no image labels"
            )
        return mask


def _refuse_below(config: AfiConfig, least: int, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not value >= least:
            raise ConfigError(f"afi: {name} must be at least {least}, got {value}")


def _mask(space: LabelSpace, wanted: tuple[str, ...], known: tuple[str, ...], key: str) -> NDArray[np.bool_]:
    for name in wanted:
        if name not in space.class_names:
            near = difflib.get_close_matches(name, space.class_names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"classes: {', '.join(space.class_names)}"
            raise ConfigError(f"afi: {key} names {name!r}, which is no class of {space.name!r}; {hint}")
    return np.isin(np.array(space.class_names), wanted or known)
