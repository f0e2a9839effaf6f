"""How many labels change when the network of provider triton stores 16 bits instead of 32. Needs no GPU.

    python benchmarks/half_precision.py [MODEL] [--scans SOURCE ...] [--json FILE]

The steps of the provider, voxels to labels, run on the CPU; its kernels are replaced by products of torch on the same
tables and weights, which store the same 16 bits between layers and may add up in another order.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.suite import real_scans
from ov_seg_ros.bench.scans import BenchScan, load_scans
from ov_seg_ros.bench.section import Cell, Section, Table, section_to_dict
from ov_seg_ros.bench.text_tables import format_section
from ov_seg_ros.gpu.device_labels import DeviceLabels
from ov_seg_ros.gpu.recording import Recording
from ov_seg_ros.runtime.model_file import ModelFile, load_model_file, shipped_model_path
from ov_seg_ros.runtime.onnx_graph import read_onnx_graph
from ov_seg_ros.runtime.segmenter import Segmenter
from ov_seg_ros.runtime.triton_network import TritonNetwork
from ov_seg_ros.runtime.triton_segmenter import Room, ScanChain

Storage = Literal["float16", "float32"]


def compare(model: ModelFile, scans: Sequence[BenchScan]) -> Section:
    """A row per scan and type of storage."""
    segmenter = Segmenter.load(model.path, "cpu")
    rows: list[dict[str, Cell]] = []
    for scan in scans:
        expected = segmenter.segment(scan.cloud)
        for dtype in get_args(Storage):
            found, num_points = run(model, scan, dtype), len(scan.cloud)
            probability = found.probability[:num_points].numpy()
            rows.append(
                {
                    "scan": scan.name,
                    "points": num_points,
                    "storage": dtype,
                    "other labels": int((found.class_id[:num_points].numpy() != expected.class_id).sum()),
                    "largest change of a probability": float(np.abs(probability - expected.probability).max()),
                }
            )
    title = f"labels of {model.description.name} by the steps of provider triton, against provider cpu"
    return Section("half_precision", title, (Table("points", tuple(rows)),))


def run(model: ModelFile, scan: BenchScan, dtype: Storage) -> DeviceLabels:
    """Labels of a scan, all steps on the CPU."""
    device = torch.device("cpu")
    room = Room(0, (0,) * model.description.num_levels).with_room_for(scan.cloud, model.description)
    num_features = len(model.description.point_features)
    network = TritonNetwork(read_onnx_graph(model.content), num_features, device, dtype, kernels="torch")
    chain = ScanChain(model.description, network, room, device)
    return Recording(chain, room.points, model.description.uses_color, device).run(scan.cloud)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="student (default: the one that is shipped)")
    parser.add_argument("--scans", nargs="+", default=real_scans(), help="folders, files, recordings, or 'synthetic'")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(arguments)
    section = compare(load_model_file(options.model or shipped_model_path()), load_scans(options.scans))
    print(format_section(section))
    if options.json:
        options.json.write_text(json.dumps(section_to_dict(section), indent=1) + "\n")


if __name__ == "__main__":
    main()
