"""The verbs of ``ov-seg``, one module each: ``add_arguments`` (quick) and ``run`` (imports what it needs)."""
