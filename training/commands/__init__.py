"""The verbs of ``python -m training``, one file each or one per family."""
