"""The one error root of the package.

A message says what came, what was expected, what to do, and where.
"""

from __future__ import annotations


class OvSegError(Exception):
    """Anything a user can cause and mend; the command line prints it on one line."""


class InputError(OvSegError):
    """A file, message or array does not hold what it should."""


class ConfigError(OvSegError):
    """A parameter or configuration key is unknown, missing or out of its range."""


class ModelError(OvSegError):
    """A model file is missing, corrupt, or made for another version."""


class ProcessError(OvSegError):
    """A process that this one works with did not start, or died."""


class MissingDependencyError(OvSegError):
    """An optional package is not installed; the message holds the install line."""

    def __init__(self, package: str, install: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package}, which is not installed: {install}")
