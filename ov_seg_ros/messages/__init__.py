"""ROS messages to core types and back, by attribute: serves rclpy and rosbags alike."""
