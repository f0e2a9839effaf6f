"""Runs contests one after the other; one that fails or lacks something never ends the run."""

from __future__ import annotations

import importlib
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from ov_seg_ros.bench.machine import machine_cores, usable_cores
from ov_seg_ros.bench.machine_load import LoadMeter, load_warning
from ov_seg_ros.bench.results import ResultFile
from ov_seg_ros.bench.section import BenchOptions, Contest, Section
from ov_seg_ros.bench.text_tables import format_goals, format_section
from ov_seg_ros.core.errors import ConfigError, OvSegError

INSTALLED = {
    "stages": "ov_seg_ros.bench.stages",
    "memory": "ov_seg_ros.bench.memory",
    "sustained": "ov_seg_ros.bench.sustained",
    "startup": "ov_seg_ros.bench.startup",
    "scaling": "ov_seg_ros.bench.scaling",
}
"""Name of a section to the module whose ``contest`` makes it: those that need no checkout."""


def run_suite(modules: Mapping[str, str], options: BenchOptions, file: ResultFile, show: Callable[[str], None]) -> None:
    """Runs every contest, showing and writing each section as soon as it is there, and the goals at the end.

    Args:
        modules: name of a section to the module with its ``contest``.
        options: for the contests; each gets a scratch folder of its own.
        file: gets the sections.
        show: prints text.
    """
    said: set[str] = set()
    for name, module in modules.items():
        options.say(name)
        section, seconds, others = measure_section(name, partial(_load_contest, module), options)
        warning = load_warning(others, machine_cores())
        file.add(section, warning, seconds=seconds, cores_used_by_others=others)
        news = replace(section, missing=tuple(sentence for sentence in section.missing if sentence not in said))
        said |= set(section.missing)
        show(f"\n{format_section(news, warning)}\n   ({seconds:.0f} s)")
    show(f"\n{format_goals(file.verdicts(), usable_cores())}")


def measure_section(
    name: str, load: Callable[[], Contest], options: BenchOptions
) -> tuple[Section, float, float | None]:
    """Runs one contest, whatever happens in it.

    Args:
        name: of the section, also of its scratch folder.
        load: imports the contest.
        options: for the contest.

    Returns:
        The section, which says in ``missing`` what went wrong; seconds; and how many cores other processes used.
    """
    scratch = options.scratch / name
    scratch.mkdir(parents=True, exist_ok=True)
    meter, begin = LoadMeter(), time.monotonic()
    try:
        section = replace(load()(replace(options, scratch=scratch)), name=name)
    except ImportError as error:
        section = _failed(name, f"it needs a package or file that is not here: {error}")
    except OvSegError as error:
        section = _failed(name, str(error))
    except Exception as error:
        section = _failed(name, f"it failed with {type(error).__name__}: {error}", traceback.format_exc())
    return section, time.monotonic() - begin, meter.others()


def choose(modules: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """The named ones of ``modules``, all of them if none is named.

    Raises:
        ConfigError: a name is unknown.
    """
    unknown = [name for name in names if name not in modules]
    if unknown:
        raise ConfigError(f"there is no section {', '.join(unknown)}; known here: {', '.join(modules)}")
    return {name: module for name, module in modules.items() if name in names or not names}


def _load_contest(module: str) -> Contest:
    contest: Contest = importlib.import_module(module).contest
    return contest


def _failed(name: str, why: str, trace: str = "") -> Section:
    return Section(
        name,
        "not measured",
        missing=(f"{name} was not measured: {why}",),
        details={"traceback": trace} if trace else {},
    )
