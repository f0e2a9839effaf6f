"""Names of topics and frames in the recordings this project writes.

* ``/lidar/points`` in frame ``lidar``;
* per camera ``/camera/<name>/image_raw/compressed`` (JPEG) and ``camera_info`` in frame ``camera_<name>_optical``;
* ``/tf_static`` from ``base_link`` to the sensors;
* with poses ``/tf`` from ``odom`` to ``base_link`` at every scan and image, and ``/odometry`` at every scan;
* with ground truth ``/ground_truth/points`` (x, y, z, class_id, instance_id; stamp, order and length as the scan) and
  ``/ground_truth/label_info`` with the names of the classes.
"""

LIDAR_TOPIC, LIDAR_FRAME = "/lidar/points", "lidar"
BASE_FRAME, ODOM_FRAME = "base_link", "odom"
STATIC_TRANSFORM_TOPIC, TRANSFORM_TOPIC, ODOMETRY_TOPIC = "/tf_static", "/tf", "/odometry"
TRUTH_TOPIC, TRUTH_INFO_TOPIC = "/ground_truth/points", "/ground_truth/label_info"


def camera_frame(name: str) -> str:
    """Frame of a camera in tf, by its name."""
    return f"camera_{name}_optical"


def image_topic(name: str) -> str:
    """Topic of a camera's JPEG images."""
    return f"/camera/{name}/image_raw/compressed"


def camera_info_topic(name: str) -> str:
    """Topic of a camera's calibration."""
    return f"/camera/{name}/camera_info"
