"""Memory of a process that labels scans with a student, without ROS: fresh processes, one per provider and scan."""

from __future__ import annotations

from ov_seg_ros.bench.engines import load_engines
from ov_seg_ros.bench.fresh_process import ask, save_scan
from ov_seg_ros.bench.section import BenchOptions, Cell, Section, Table
from ov_seg_ros.core.errors import ProcessError

REPEATS, QUICK_REPEATS = 10, 2


def contest(options: BenchOptions) -> Section:
    """Measures resident memory: libraries, the loaded student, and the peak while it labels."""
    engines = load_engines(options)
    repeats = QUICK_REPEATS if options.quick else REPEATS
    rows: list[dict[str, Cell]] = []
    missing = list(engines.missing)
    for number, scan in enumerate(options.scans):
        path = save_scan(scan.cloud, options.scratch / f"{number}.npy")
        for name in engines.segmenters:
            request = {"model": str(options.model.resolve()), "provider": name, "threads": options.threads}
            try:
                found = ask("memory", {**request, "scans": [path], "repeats": repeats})
            except ProcessError as error:
                missing.append(f"memory of {scan.name} on {name}: not measured, {error}")
                continue
            peak = found["scans"][0]
            rows.append(
                {
                    "scan": scan.name,
                    "provider": name,
                    "libraries MiB": found["imported MiB"],
                    "student loaded MiB": found["loaded MiB"],
                    "peak MiB": peak["peak MiB"],
                    "rise by scans MiB": peak["rise MiB"],
                }
            )
    return Section(
        name="memory",
        title=f"resident memory of a fresh process that labels a scan {repeats} times",
        tables=(Table("MiB, each a total but the last: peak less what the loaded student takes", tuple(rows)),),
        missing=tuple(missing),
        details={"repeats": repeats},
    )
