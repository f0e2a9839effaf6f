"""Prompt templates: the sentences a text is put into before a text encoder reads it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import yaml

from ov_seg_ros.core.errors import ConfigError

TEMPLATES = Path(__file__).resolve().parent.parent / "config" / "templates"


def load_templates(name: str) -> tuple[str, ...]:
    """The named set of templates, a list of sentences in ``config/templates/<name>.yaml``.

    Raises:
        ConfigError: no set has that name (with the nearest one), or the file is no list of templates.
    """
    path = TEMPLATES / f"{name}.yaml"
    known = sorted(p.stem for p in TEMPLATES.glob("*.yaml"))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}; or give a list of sentences"
        raise ConfigError(f"no template set is called {name!r}; {hint}")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, list):
        raise ConfigError(f"{path}: expected a list of sentences with one {{}} each, got {content!r}")
    return check_templates(content, str(path))


def check_templates(templates: Sequence[object], where: str) -> tuple[str, ...]:
    """Templates as a tuple, if each is a sentence with exactly one ``{}`` and none stands twice.

    Raises:
        ConfigError: naming the template that is not.
    """
    if not templates:
        raise ConfigError(f"{where}: at least one template is needed; '{{}}' alone means the plain text")
    for template in templates:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise ConfigError(f"{where}: a template is a sentence with one {{}}, got {template!r}")
    found = tuple(str(template) for template in templates)
    if twice := sorted({t for t in found if found.count(t) > 1}):
        raise ConfigError(f"{where}: these templates stand twice: {', '.join(map(repr, twice))}")
    return found


def fill_template(template: str, text: str) -> str:
    """The template with the text in the place of ``{}``; other braces, in either, stay as they are."""
    return template.replace("{}", text)
