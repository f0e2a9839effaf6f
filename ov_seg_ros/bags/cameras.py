"""Which topics of a recording belong to which camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ov_seg_ros.bags.message_types import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE
from ov_seg_ros.core.errors import InputError

if TYPE_CHECKING:
    from ov_seg_ros.bags.recording import Recording

_DEPTH_ENCODINGS = ("16uc1", "32fc1")
_NOT_AN_IMAGE = ("depth", "disparity", "mask", "overlay", "confidence")


@dataclass(frozen=True)
class CameraTopics:
    """The topics of one camera.

    Attributes:
        name: short and unique within the recording ("front_left").
        image_topic: the images to read.
        compressed: whether these are CompressedImage messages.
        info_topic: its CameraInfo topic, None if the recording has none: such a camera cannot be used.
        rectified: whether the images are undistorted already; then the projection matrix P holds, without distortion.
    """

    name: str
    image_topic: str
    compressed: bool
    info_topic: str | None
    rectified: bool = False


def find_cameras(recording: Recording, topics: Sequence[str] | None = None) -> list[CameraTopics]:
    """Pairs image topics with their camera_info by the conventions of ROS drivers.

    ``/ns/image_raw`` belongs to ``/ns/camera_info``, likewise ``image_rect``, ``image_color``, ``image`` and
    ``.../compressed``. Where the names say nothing, an equal ``frame_id`` does. Of several topics of one camera
    the untouched image is read, not the rectified one, and the raw form, not the compressed one. Depth images,
    masks and our own overlays are not cameras.

    Args:
        recording: where to look.
        topics: image topics the user chose; None = all that are found.

    Returns:
        One entry per camera by name; cameras without a camera_info are among them, with ``info_topic`` None.

    Raises:
        InputError: a topic that was asked for does not exist, is no image, or stands for a camera twice.
    """
    images = {t.name: t.type_name == COMPRESSED_IMAGE for t in recording.topics_of(IMAGE, COMPRESSED_IMAGE)}
    if topics is None:
        images = {name: kind for name, kind in images.items() if _is_camera_image(recording, name)}
        chosen = _one_per_camera(images)
    else:
        chosen = [_check_asked(recording, topic, images) for topic in topics]
    names = _camera_names(chosen)
    return sorted(
        (
            CameraTopics(names[t], t, images[t], _find_info(recording, t), _is_rectified(t))
            for t in dict.fromkeys(chosen)
        ),
        key=lambda camera: camera.name,
    )


def base_topic(topic: str) -> str:
    """The image topic without its transport: ``/front/image_raw/compressed`` is ``/front/image_raw``."""
    for suffix in ("/compressed", "_compressed"):
        topic = topic.removesuffix(suffix)
    return topic


def camera_namespace(topic: str) -> str:
    """The namespace that an image and its camera_info share: ``/front`` for ``/front/image_raw/compressed``."""
    return base_topic(topic).rpartition("/")[0]


def _is_rectified(topic: str) -> bool:
    return "rect" in base_topic(topic).rpartition("/")[2]


def _is_camera_image(recording: Recording, topic: str) -> bool:
    words = topic.lower()
    if words.endswith(("/compresseddepth", "/theora")) or any(word in words for word in _NOT_AN_IMAGE):
        return False
    first = recording.first(topic)
    if first is None or first.type_name != IMAGE:
        return True
    return str(first.decode().encoding).lower() not in _DEPTH_ENCODINGS


def _one_per_camera(images: dict[str, bool]) -> list[str]:
    """The best image topic of every namespace: unrectified first, then uncompressed, then the shortest name."""
    best: dict[str, tuple[bool, bool, int, str]] = {}
    for topic, compressed in images.items():
        rank = (_is_rectified(topic), compressed, len(topic), topic)
        namespace = camera_namespace(topic)
        best[namespace] = min(best.get(namespace, rank), rank)
    return [rank[-1] for rank in best.values()]


def _camera_names(topics: Sequence[str]) -> dict[str, str]:
    """The last word of each namespace, with as many words before it as are needed to tell the cameras apart."""
    words = {topic: [w for w in camera_namespace(topic).split("/") if w] or ["camera"] for topic in topics}
    for length in range(1, max((len(w) for w in words.values()), default=0) + 1):
        names = {topic: "_".join(w[-length:]) for topic, w in words.items()}
        if len(set(names.values())) == len(names):
            return names
    return {topic: "_".join(w for w in base_topic(topic).split("/") if w) for topic in topics}


def _find_info(recording: Recording, image_topic: str) -> str | None:
    infos = [t.name for t in recording.topics_of(CAMERA_INFO)]
    base, namespace = base_topic(image_topic), camera_namespace(image_topic)
    for candidate in (f"{namespace}/camera_info", f"{base}/camera_info", f"{base}_info"):
        if candidate in infos:
            return candidate
    frame = _frame_id(recording, image_topic)
    same_frame = [info for info in infos if frame and _frame_id(recording, info) == frame]
    return same_frame[0] if len(same_frame) == 1 else None


def _frame_id(recording: Recording, topic: str) -> str:
    first = recording.first(topic)
    return str(first.decode().header.frame_id) if first else ""


def _check_asked(recording: Recording, topic: str, images: dict[str, bool]) -> str:
    for candidate in (topic, f"/{topic}", f"{topic}/compressed"):
        if candidate in images:
            return candidate
    found = recording.topics.get(topic)
    problem = f"{topic} holds {found.type_name}, no images" if found and found.count else f"no images on topic {topic}"
    options = "\n".join(f"  --camera-topic {name}" for name in sorted(images))
    raise InputError(f"{recording.path}: {problem}; " + (f"choose among:\n{options}" if images else "it holds none"))
