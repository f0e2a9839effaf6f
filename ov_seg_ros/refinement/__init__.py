"""Refinement of labels after they were predicted or lifted: on the robot and offline."""
