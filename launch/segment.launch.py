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

from ov_seg_ros.ros.launch_arguments import transport_environment

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
            "cameras", default_value="", description="Names of the cameras, separated by commas: front,left."
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
            default_value="true",
            choices=YES_NO,
            description="Configure and activate at start; false = wait for a lifecycle manager.",
        ),
        DeclareLaunchArgument(
            "required",
            default_value="false",
            choices=YES_NO,
            description="End the whole launch when the node ends.",
        ),
        DeclareLaunchArgument(
            "use_sim_time",
            default_value="false",
            choices=YES_NO,
            description="Take the time from /clock (bag, simulator).",
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
    """Builds the nodes once the arguments have their values."""
    values = context.launch_configurations
    cameras = [name.strip() for name in values["cameras"].split(",") if name.strip()]
    transport = transport_environment(values["large_data_transport"] == "true", context.environment)
    node = Node(
        package=PACKAGE,
        executable="segmentation_node",
        name=values["node_name"],
        namespace=values["namespace"],
        output="screen",
        parameters=[values["params_file"], overrides(values, cameras)],
        remappings=[("~/input/pointcloud", values["lidar_topic"]), *camera_remappings(values, cameras)],
        ros_arguments=["--log-level", values["log_level"]],
        additional_env=transport,
        on_exit=Shutdown(reason="the segmentation node ended") if values["required"] == "true" else None,
    )
    return [node, rviz(values, cameras, transport)] if values["rviz"] == "true" else [node]


def overrides(values: dict[str, str], cameras: list[str]) -> dict[str, Any]:
    """Parameters of the command line; what was not given stays as params_file says."""
    given: dict[str, Any] = {
        "use_sim_time": values["use_sim_time"] == "true",
        "autostart": values["autostart"] == "true",
    }
    if values["model"]:
        given["model_path"] = str(Path(values["model"]).expanduser().absolute())
    for name in ("provider", "refinement"):
        if values[name]:
            given[name] = values[name]
    if values["queue_size"]:
        given["queue_size"] = int(values["queue_size"])
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


def rviz(values: dict[str, str], cameras: list[str], transport: dict[str, str]) -> Node:
    """RViz with the preset, whose topics are named as if the node had its default name and cameras 1, 2, 3."""
    node = "/" + "/".join(part for part in (values["namespace"].strip("/"), values["node_name"]) if part)
    preset = "/segmentation_node"
    remappings = [
        (f"{preset}/output/pointcloud/{output}", f"{node}/output/pointcloud/{output}")
        for output in ("visualization", "segmentation")
    ]
    remappings += [
        (f"{preset}/output/image/overlay/camera_{number}", f"{node}/output/image/overlay/{name}")
        for number, name in enumerate(cameras[:3], start=1)
    ]
    return Node(
        package="rviz2",
        executable="rviz2",
        name="rviz2",
        output="log",
        arguments=["-d", values["rviz_config"], "-f", values["rviz_frame"]],
        parameters=[{"use_sim_time": values["use_sim_time"] == "true"}],
        remappings=[pair for pair in remappings if pair[0] != pair[1]],
        additional_env=transport,
    )
