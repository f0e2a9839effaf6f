"""What the ids of a labelled cloud mean: vision_msgs/LabelInfo, and the same as JSON."""

from __future__ import annotations

import json
from typing import Any

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.messages.assembly import MessageTypes, make_header, make_message


def encode_label_info(
    label_space: LabelSpace, types: MessageTypes, stamp_ns: int = 0, frame_id: str = "", threshold: float = 0.0
) -> Any:
    """Makes a vision_msgs/LabelInfo; 255 (unknown) has no entry, as vision_msgs prescribes.

    Args:
        label_space: the classes.
        types: message classes, see ``messages.assembly``.
        stamp_ns: nanoseconds.
        frame_id: tf frame of the labelled clouds.
        threshold: probability below which labels were dropped.

    Raises:
        InputError: a class is missing; where vision_msgs is not installed there is ``encode_label_info_json``.
    """
    class_map = [
        make_message(types, "vision_msgs/msg/VisionClass", class_id=class_id, class_name=name)
        for class_id, name in enumerate(label_space.class_names)
    ]
    header = make_header(types, stamp_ns, frame_id)
    return make_message(
        types, "vision_msgs/msg/LabelInfo", header=header, class_map=class_map, threshold=float(threshold)
    )


def encode_label_info_json(label_space: LabelSpace, version: str = "") -> str:
    """The classes as JSON for a std_msgs/String.

    Args:
        label_space: the classes.
        version: changes whenever the classes do, such as the hash of the model.

    Returns:
        ``{"name", "version", "ignore_id": 255, "classes": [{"id", "name", "color": [r, g, b]}]}``.
    """
    classes = [
        {"id": class_id, "name": name, "color": list(color)}
        for class_id, (name, color) in enumerate(zip(label_space.class_names, label_space.palette, strict=True))
    ]
    return json.dumps({"name": label_space.name, "version": version, "ignore_id": IGNORE_ID, "classes": classes})


def decode_label_info_json(text: str) -> tuple[LabelSpace, str]:
    """The inverse of ``encode_label_info_json``.

    Returns:
        The label space (without texts) and the version.

    Raises:
        InputError: another JSON, or ids that are not 0, 1, 2 ... in order.
    """
    try:
        content = json.loads(text)
        classes = content["classes"]
        if [entry["id"] for entry in classes] != list(range(len(classes))):
            raise InputError(f"ids of label info must be 0 to {len(classes) - 1} in order")
        label_space = LabelSpace(
            name=content["name"],
            class_names=tuple(str(entry["name"]) for entry in classes),
            palette=tuple((int(r), int(g), int(b)) for r, g, b in (entry["color"] for entry in classes)),
        )
        return label_space, str(content["version"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"expected label info as encode_label_info_json makes it: {error!r}") from error
