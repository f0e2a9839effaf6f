"""Label a LiDAR topic: ``ros2 launch ov_seg_ros segment.launch.py lidar_topic:=/points``.

``ros2 launch ov_seg_ros segment.launch.py -s`` lists every argument.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch_ros.actions import Node

from ov_seg_ros.ros.launch_arguments import (
    camera_names,
    existing_file,
    full_node_name,
    parameters_in_file,
    shipped_or_own_file,
    transport_environment,
    whole_number,
)

PACKAGE = "ov_seg_ros"
SHARE = Path(get_package_share_directory(PACKAGE))
YES_NO = ["true", "false"]


def arguments() -> list[DeclareLaunchArgument]:
    """What a user may give; only ``lidar_topic`` must be given."""
    return [
        DeclareLaunchArgument(
            "lidar_topic", description="PointCloud2 topic of the LiDAR, the only thing you must give."
        ),
        DeclareLaunchArgument(
            "model", default_value="", description="Student to run, an .onnx file; empty = the shipped one."
        ),
        DeclareLaunchArgument(
            "params_file",
            default_value=str(SHARE / "config" / "segmentation_node.yaml"),
            description="Parameters of the node; copy the default and change what you need. Arguments given here win.",
        ),
        DeclareLaunchArgument(
            "provider",
            default_value="",
            choices=["", "auto", "cpu", "compiled", "CPUExecutionProvider", "cuda", "tensorrt", "triton"],
            description="Who computes the network; empty = what params_file says.",
        ),
        DeclareLaunchArgument(
            "refinement",
            default_value="",
            choices=["", "none", "afi"],
            description="Refinement of the student's labels; empty = what params_file says.",
        ),
        DeclareLaunchArgument(
            "output_profile",
            default_value="",
            choices=["", "full", "xyzcpe"],
            description="Layout of the labelled cloud; empty = what params_file says.",
        ),
        DeclareLaunchArgument(
            "class_map",
            default_value="",
            description="YAML file that translates the student's classes, or the name of one of the package's "
            "(autoware); empty = what params_file says.",
        ),
        DeclareLaunchArgument(
            "cameras",
            default_value="",
            description="Names of the cameras, separated by commas: front,left; empty = what params_file says.",
        ),
        DeclareLaunchArgument(
            "camera_topic",
            default_value="/camera/{name}/image_raw",
            description="Image topic of a camera, {name} stands for its name; <topic>/compressed is subscribed too.",
        ),
        DeclareLaunchArgument(
            "camera_info_topic",
            default_value="/camera/{name}/camera_info",
            description="CameraInfo topic of a camera, {name} stands for its name.",
        ),
        DeclareLaunchArgument(
            "queue_size",
            default_value="",
            description="Scans that may wait while one is labelled; empty = what params_file says.",
        ),
        DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node."),
        DeclareLaunchArgument("node_name", default_value="segmentation_node", description="Name of the node."),
        DeclareLaunchArgument(
            "autostart",
            default_value="",
            choices=["", *YES_NO],
            description="Configure and activate at start; false = wait for a lifecycle manager; empty = what "
            "params_file says.",
        ),
        DeclareLaunchArgument(
            "required",
            default_value="false",
            choices=YES_NO,
            description="End the whole launch when the node ends.",
        ),
        DeclareLaunchArgument(
            "use_sim_time",
            default_value="",
            choices=["", *YES_NO],
            description="Take the time from /clock (bag, simulator); empty = what params_file says.",
        ),
        DeclareLaunchArgument(
            "large_data_transport",
            default_value="true",
            choices=YES_NO,
            description="Run with FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA unless the variable is set already; start the "
            "LiDAR driver with the same (docs/transport.md).",
        ),
        DeclareLaunchArgument("rviz", default_value="false", choices=YES_NO, description="Show the result in RViz."),
        DeclareLaunchArgument(
            "rviz_config",
            default_value=str(SHARE / "config" / "rviz" / "segment.rviz"),
            description="RViz configuration.",
        ),
        DeclareLaunchArgument(
            "rviz_frame", default_value="lidar", description="Fixed frame in RViz, for instance that of the LiDAR."
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            choices=["debug", "info", "warn", "error", "fatal"],
            description="Smallest severity that the node logs.",
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    """The arguments, the node, and RViz if asked for."""
    return LaunchDescription([*arguments(), OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[Node]:
    """Builds the nodes once the arguments have their values; what is wrong with them is said before anything starts."""
    values = dict(context.launch_configurations)
    values["params_file"] = existing_file("params_file", values["params_file"])
    given = overrides(values)
    in_use = parameters_in_file(values["params_file"], full_name(values)) | given
    transport = transport_environment(values["large_data_transport"] == "true", context.environment)
    node = Node(
        package=PACKAGE,
        executable="segmentation_node",
        name=values["node_name"],
        namespace=values["namespace"],
        output="screen",
        parameters=[values["params_file"], *([given] if given else [])],
        remappings=[("~/input/pointcloud", values["lidar_topic"]), *camera_remappings(values, camera_names(in_use))],
        ros_arguments=["--log-level", values["log_level"]],
        additional_env=transport,
        on_exit=Shutdown(reason="the segmentation node ended") if values["required"] == "true" else None,
    )
    return [node, rviz(values, in_use, transport)] if values["rviz"] == "true" else [node]


def full_name(values: dict[str, str]) -> str:
    """The name that the node will have, below the namespace of a PushRosNamespace around this file."""
    return full_node_name((values.get("ros_namespace", ""), values["namespace"]), values["node_name"])


def overrides(values: dict[str, str]) -> dict[str, Any]:
    """Parameters of the command line; what was not given stays as params_file says."""
    given: dict[str, Any] = {name: values[name] == "true" for name in ("autostart", "use_sim_time") if values[name]}
    if values["model"]:
        given["model_path"] = str(Path(values["model"]).expanduser().absolute())
    for name in ("provider", "refinement", "output_profile"):
        if values[name]:
            given[name] = values[name]
    if values["class_map"]:
        given["class_map"] = shipped_or_own_file("class_map", values["class_map"], SHARE / "config" / "class_maps")
    if values["queue_size"]:
        given["queue_size"] = whole_number("queue_size", values["queue_size"])
    cameras = [name.strip() for name in values["cameras"].split(",") if name.strip()]
    if cameras:
        given["cameras"] = cameras
    return given


def camera_remappings(values: dict[str, str], cameras: list[str]) -> list[tuple[str, str]]:
    """The private camera inputs of the node, to the topics of the robot."""
    remappings = []
    for name in cameras:
        image = values["camera_topic"].replace("{name}", name)
        remappings += [
            (f"~/input/{name}/image", image),
            (f"~/input/{name}/image/compressed", f"{image}/compressed"),
            (f"~/input/{name}/camera_info", values["camera_info_topic"].replace("{name}", name)),
        ]
    return remappings


def rviz(values: dict[str, str], in_use: dict[str, Any], transport: dict[str, str]) -> Node:
    """RViz with the preset, whose topics are named as if the node had its default name and cameras 1, 2, 3.

    Args:
        values: of the launch arguments.
        in_use: parameters of the node that the user set.
        transport: environment variables of the node.
    """
    node, preset = full_name(values), "/segmentation_node"
    remappings = [
        (f"{preset}/output/pointcloud/{output}", f"{node}/output/pointcloud/{output}")
        for output in ("visualization", "segmentation")
    ]
    remappings += [
        (f"{preset}/output/image/overlay/camera_{number}", f"{node}/output/image/overlay/{name}")
        for number, name in enumerate(camera_names(in_use)[:3], start=1)
    ]
    clock = {name: value for name, value in in_use.items() if name == "use_sim_time"}
    return Node(
        package="rviz2",
        executable="rviz2",
        name="rviz2",
        output="log",
        arguments=["-d", existing_file("rviz_config", values["rviz_config"]), "-f", values["rviz_frame"]],
        parameters=[clock] if clock else [],
        remappings=[pair for pair in remappings if pair[0] != pair[1]],
        additional_env=transport,
    )
