"""Measures what a larger vocabulary costs: the same student with heads of ever more classes.

    python benchmarks/vocabulary.py [MODEL] [--scans SOURCE ...] [--rounds N] [--json FILE]

The heads have random weights, so labels mean nothing and times are right. A class id has eight bits, of which 255 means
"unknown": 255 classes is the most there is, however many texts they stand for.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ov_seg_ros.bench.rounds import take_turns
from ov_seg_ros.bench.section import BenchOptions, Cell, Section, Table
from ov_seg_ros.bench.spread import median, paired_ratio, summarize
from ov_seg_ros.bench.stages import LABELS, staged
from ov_seg_ros.commands.bench import run_contest
from ov_seg_ros.core.errors import ModelError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.student_description import METADATA_KEY, StudentDescription
from ov_seg_ros.runtime.segmenter import Segmenter

CLASSES, QUICK_CLASSES = (10, 50, 100, 255), (10, 255)
ASKED = 500


def contest(options: BenchOptions) -> Section:
    """Times the same scans with every head, in turns."""
    counts = QUICK_CLASSES if options.quick else CLASSES
    scans = {scan.beams: scan for scan in options.scans}.values()
    students = {}
    for count in counts:
        path = options.scratch / f"{count}.onnx"
        write_with_classes(options.model, count, path)
        students[count] = Segmenter.load(path, "auto", options.threads)
    contenders = {(scan.name, count): staged(students[count], scan) for scan in scans for count in counts}
    times = take_turns(contenders, options.rounds)
    rows: list[dict[str, Cell]] = []
    for (scan_name, count), samples in times.items():
        reference = [row[LABELS] for row in times[scan_name, counts[0]]]
        rows.append(
            {
                "scan": scan_name,
                "classes": count,
                **summarize([row[LABELS] for row in samples]),
                "inference": median([row["inference"] for row in samples]),
                "postprocess": median([row["postprocess"] for row in samples]),
                f"x {counts[0]} classes": paired_ratio([row[LABELS] for row in samples], reference),
            }
        )
    return Section(
        name="vocabulary",
        title=f"{LABELS} with heads of {counts[0]} to {counts[-1]} classes",
        tables=(Table("ms; inference and postprocess are medians", tuple(rows)),),
        missing=(f"{ASKED} classes: not measured, a class id has eight bits and a label space at most 255 classes",),
    )


def write_with_classes(student: Path, count: int, path: Path) -> None:
    """Copies a student, with a head of ``count`` classes and random weights in place of its own.

    Raises:
        ModelError: its head is no matrix product with a bias.
    """
    model = onnx.load(student)
    description = StudentDescription.from_json({p.key: p.value for p in model.metadata_props}[METADATA_KEY])
    producer = {output: node for node in model.graph.node for output in node.output}
    node = producer[model.graph.output[0].name]
    while node.op_type == "Identity":
        node = producer[node.input[0]]
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    if node.op_type != "Gemm" or not {node.input[1], node.input[2]} <= set(weights):
        raise ModelError(f"{student}: the network ends with {node.op_type}, expected a Gemm with weights and a bias")
    generator = np.random.default_rng(count)
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    width = numpy_helper.to_array(weights[node.input[1]]).shape[1 if transposed else 0]
    weight = generator.normal(size=(count, width) if transposed else (width, count)).astype(np.float32)
    weights[node.input[1]].CopyFrom(numpy_helper.from_array(weight, node.input[1]))
    weights[node.input[2]].CopyFrom(numpy_helper.from_array(np.zeros(count, np.float32), node.input[2]))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = count
    names = tuple(f"class {i}" for i in range(count))
    space = LabelSpace("vocabulary", names, tuple((i % 256, 90, 255 - i % 256) for i in range(count)))
    onnx.helper.set_model_props(model, {METADATA_KEY: replace(description, label_space=space).to_json()})
    onnx.save(model, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table and writes the JSON."""
    run_contest(contest, __doc__, arguments)


if __name__ == "__main__":
    main()
