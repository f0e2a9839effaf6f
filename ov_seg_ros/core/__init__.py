"""The nouns and the geometry: NumPy only, no ROS, no torch."""
