"""What a machine does with a student: the measurements behind ``ov-seg bench`` and ``make bench``, without torch."""
