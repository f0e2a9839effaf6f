"""Recordings: rosbag2 and mcap reading and writing without ROS."""
