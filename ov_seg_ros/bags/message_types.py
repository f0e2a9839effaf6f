"""The message definitions a recording is read and written with."""

from __future__ import annotations

from functools import cache
from typing import Any

from rosbags.interfaces import Connection, MessageDefinition, MessageDefinitionFormat
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from ov_seg_ros.core.errors import InputError

POINT_CLOUD = "sensor_msgs/msg/PointCloud2"
IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
TF = "tf2_msgs/msg/TFMessage"
ODOMETRY = "nav_msgs/msg/Odometry"
LABEL_INFO = "vision_msgs/msg/LabelInfo"

_VISION_MSGS = {
    "vision_msgs/msg/VisionClass": "uint16 class_id\nstring class_name\n",
    LABEL_INFO: "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n",
}
_IDL_SEPARATOR = "=" * 80 + "\n"


def new_typestore(ros1: bool = False) -> Typestore:
    """All standard messages plus ``vision_msgs/LabelInfo``, which rosbags does not ship."""
    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for name, text in _VISION_MSGS.items():
        types.update(get_types_from_msg(text, name))
    store.register(types)
    return store


@cache
def standard_typestore() -> Typestore:
    """The shared store of ROS 2 messages for writing; never registers types of a recording."""
    return new_typestore()


def register_definition(store: Typestore, type_name: str, definition: MessageDefinition) -> None:
    """Adds a type a recording brings along, so that its messages can be decoded.

    Raises:
        InputError: the recording holds no definition of it, or one that contradicts a standard message.
    """
    if type_name in store.fielddefs:
        return
    if definition.format == MessageDefinitionFormat.NONE or not definition.data:
        raise InputError(f"message type {type_name} is not a standard one and the recording holds no definition of it")
    try:
        types: dict[str, Any] = {}
        if definition.format == MessageDefinitionFormat.MSG:
            types.update(get_types_from_msg(definition.data, type_name))
        else:
            for part in _idl_parts(definition.data):
                types.update(get_types_from_idl(part))
        store.register(types)
    except Exception as error:  # the parsers raise several kinds
        raise InputError(f"the recording's definition of {type_name} cannot be used: {error}") from error


def _idl_parts(text: str) -> list[str]:
    if text.startswith(f"{_IDL_SEPARATOR}IDL: "):
        return [part.split("\n", 1)[1] for part in text.split(_IDL_SEPARATOR)[1:]]
    return [text]


def standard_definition(type_name: str) -> tuple[str, str]:
    """Definition text and type hash of a standard message.

    Raises:
        InputError: it is none.
    """
    store = standard_typestore()
    if type_name not in store.fielddefs:
        raise InputError(f"{type_name} is no standard message type")
    return store.generate_msgdef(type_name, ros_version=2)[0], store.hash_rihs01(type_name)


def definition_to_copy(connection: Connection) -> tuple[str, str]:
    """Definition text and type hash with which a topic of another recording is registered.

    A recording of humble or older holds neither. Playing needs only the type's name, so the messages are copied
    all the same, under an empty definition.
    """
    type_name, definition = connection.msgtype, connection.msgdef
    if type_name in standard_typestore().fielddefs:
        return standard_definition(type_name)
    text = definition.data if definition.format != MessageDefinitionFormat.NONE else ""
    if definition.format == MessageDefinitionFormat.IDL and not text.startswith(f"{_IDL_SEPARATOR}IDL: "):
        text = f"{_IDL_SEPARATOR}IDL: {type_name}\n{text}"
    return text, connection.digest or _type_hash(type_name, definition)


def _type_hash(type_name: str, definition: MessageDefinition) -> str:
    store = new_typestore()
    try:
        if definition.data:
            register_definition(store, type_name, definition)
        else:
            store.register(get_types_from_msg("", type_name))
        return store.hash_rihs01(type_name)
    except Exception:  # a definition we cannot parse is still copied; the zero hash means "unknown"
        return "RIHS01_" + "0" * 64
