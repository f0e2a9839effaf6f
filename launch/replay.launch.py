"""Play a recording through the node and write a report: ``ros2 launch ov_seg_ros replay.launch.py bag:=drive``.

Results go to ``out`` (labelled recording, report.html, report.json, overview.png); the launch ends with the replay. The
arguments of segment.launch.py hold here too (model, provider, params_file, cameras ...). The recording is stamped
anew as it is played, so nothing needs simulated time.
"""

from __future__ import annotations

import runpy
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import Node

from ov_seg_ros.core.errors import InputError, MissingDependencyError
from ov_seg_ros.ros.launch_arguments import number, transport_environment

PACKAGE = "ov_seg_ros"
SEGMENT = str(Path(get_package_share_directory(PACKAGE)) / "launch" / "segment.launch.py")
NODE = "/segmentation_node"
GIVEN_TO_SEGMENT = {
    "lidar_topic": f"{NODE}/input/pointcloud",
    "camera_topic": f"{NODE}/input/{{name}}/image",
    "camera_info_topic": f"{NODE}/input/{{name}}/camera_info",
    "namespace": "",
    "node_name": NODE.strip("/"),
    "queue_size": "1000",
    "required": "true",
    "autostart": "true",
    "use_sim_time": "false",
}
"""The node listens to its own private inputs, where the player publishes, and no scan may be lost."""


def arguments() -> list[DeclareLaunchArgument]:
    """What a user may give: only ``bag`` must be given; those of segment.launch.py that are still free come last."""
    own = [
        DeclareLaunchArgument("bag", description="Recording to play: a rosbag2 folder or an .mcap file."),
        DeclareLaunchArgument("out", default_value="replay_results", description="Folder for the results."),
        DeclareLaunchArgument("rate", default_value="1.0", description="Recorded seconds per second."),
        DeclareLaunchArgument(
            "bag_lidar_topic",
            default_value="",
            description="PointCloud2 topic in the recording; empty = the only one there is.",
        ),
        DeclareLaunchArgument(
            "rviz", default_value="true", choices=["true", "false"], description="Show the result in RViz."
        ),
        DeclareLaunchArgument(
            "rviz_frame", default_value="", description="Fixed frame in RViz; empty = that of the recorded scans."
        ),
    ]
    taken = {argument.name for argument in own} | set(GIVEN_TO_SEGMENT)
    return own + [argument for argument in runpy.run_path(SEGMENT)["arguments"]() if argument.name not in taken]


def generate_launch_description() -> LaunchDescription:
    """The arguments, then node and player."""
    return LaunchDescription([*arguments(), OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[IncludeLaunchDescription | Node]:
    """Builds node and player once the arguments have their values; both get the same transport."""
    values = context.launch_configurations
    rate = number("rate", values["rate"])
    options = ["--out", absolute(values["out"]), "--rate", str(rate), "--node", NODE]
    if values["bag_lidar_topic"]:
        options += ["--lidar-topic", values["bag_lidar_topic"]]
    if values["model"]:
        options += ["--model", absolute(values["model"])]
    player = Node(
        package=PACKAGE,
        executable="replay",
        output="screen",
        arguments=[absolute(values["bag"]), *options],
        additional_env=transport_environment(values["large_data_transport"] == "true", context.environment),
        on_exit=Shutdown(reason="the replay ended"),
    )
    given = dict(GIVEN_TO_SEGMENT)
    if values["rviz"] == "true":
        given["rviz_frame"] = values["rviz_frame"] or recorded_frame(absolute(values["bag"]), values["bag_lidar_topic"])
    segment = IncludeLaunchDescription(PythonLaunchDescriptionSource(SEGMENT), launch_arguments=given.items())
    return [segment, player]


def recorded_frame(bag: str, lidar_topic: str) -> str:
    """The frame of the first scan of a recording.

    Raises:
        InputError: the recording cannot be read, or it is not clear which topic is the LiDAR.
        MissingDependencyError: this Python cannot read recordings.
    """
    try:
        from ov_seg_ros.bags.recording import Recording
    except ImportError as error:
        remedy = f"pip install {error.name}, or give rviz_frame:=FRAME or rviz:=false"
        raise MissingDependencyError(str(error.name), remedy, "finding the frame of the recording") from error
    try:
        with Recording.open(bag) as recording:
            first = recording.first_decodable(recording.find_lidar_topic(lidar_topic or None))
            return str(first.header.frame_id) if first else ""
    except InputError as error:
        raise InputError(str(error).replace("--lidar-topic ", "bag_lidar_topic:=")) from error


def absolute(path: str) -> str:
    """The path as the user meant it, whatever the working directory of a process."""
    return str(Path(path).expanduser().absolute())
