"""Open-vocabulary LiDAR segmentation for ROS 2: what runs on the robot."""

__version__ = "0.1.0"
