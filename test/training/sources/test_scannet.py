"""ScanNet: meshes, labels in both forms, alignment, exported frames and .sens, splits, damaged files."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.projection import project_cloud
from training.sources.label_mapping import LabelMapping
from training.sources.rgbd_views import ViewChoice
from training.sources.scannet import ScanNet, ScanNetConfig, is_scannet
from training.sources.scannet_ply import load_ply_vertices
from training.sources.scannet_sens import SensFrames

NAME = "scene0011_00"
VERTICES = np.array([[1, 2, 0.5], [3, 2, 0.5], [3, 6, 2.5], [1, 6, 0.5]], "<f4")
RGB = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 8, 7]], np.uint8)
TURNED = np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, -0.5], [0, 0, 0, 1]], np.float64)  # aligned_from_world
LOOKING_ALONG_Y = np.array([[1, 0, 0, 2], [0, 0, 1, 0], [0, -1, 0, 1], [0, 0, 0, 1]], np.float64)  # world_from_camera
K = np.array([[10, 0, 4], [0, 10, 3], [0, 0, 1]], np.float64)


def write_ply(path, columns, types, faces=1):
    """A mesh as ScanNet writes it: binary vertices, then faces with a list property."""
    header = ["ply", "format binary_little_endian 1.0", "comment made by hand", f"element vertex {len(VERTICES)}"]
    header += [f"property {kind} {name}" for name, kind in types.items()]
    header += [f"element face {faces}", "property list uchar int vertex_indices", "end_header", ""]
    kinds = {"float": "<f4", "uchar": "u1", "ushort": "<u2"}
    rows = np.zeros(len(VERTICES), [(name, kinds[kind]) for name, kind in types.items()])
    for name in types:
        rows[name] = columns[name]
    path.write_bytes("\n".join(header).encode() + rows.tobytes() + faces * struct.pack("<B3i", 3, 0, 1, 2))


def write_scene(root, name=NAME, labels=(1, 2, 39, 0)):
    folder = root / name
    folder.mkdir(parents=True)
    xyz = dict(zip("xyz", VERTICES.T, strict=True))
    color = dict(zip(("red", "green", "blue"), RGB.T, strict=True)) | {"alpha": 255}
    types = dict.fromkeys("xyz", "float") | dict.fromkeys(("red", "green", "blue", "alpha"), "uchar")
    write_ply(folder / f"{name}_vh_clean_2.ply", xyz | color, types)
    if labels is not None:
        path = folder / f"{name}_vh_clean_2.labels.ply"
        write_ply(path, xyz | color | {"label": labels}, types | {"label": "ushort"})
    values = " ".join(f"{v:f}" for v in TURNED.ravel())
    (folder / f"{name}.txt").write_text(f"appVersionId = 5.0\naxisAlignment = {values} \ncolorHeight = 968\n")
    return folder


def write_annotation(folder, labels=("wall", "armchair")):
    segments = {"params": {}, "sceneId": folder.name, "segIndices": [5, 5, 7, 9]}
    groups = [
        {"id": 0, "objectId": 0, "segments": [5], "label": labels[0]},
        {"id": 1, "objectId": 1, "segments": [7], "label": labels[1]},
    ]
    (folder / f"{folder.name}_vh_clean_2.0.010000.segs.json").write_text(json.dumps(segments))
    (folder / f"{folder.name}.aggregation.json").write_text(json.dumps({"segGroups": groups}))


def write_table(path):
    path.write_text("id\traw_category\tnyu40id\tnyu40class\n1\twall\t1\twall\n2\tarmchair\t5\tchair\n3\tfog\t\t\n")


def write_frames(folder, poses):
    for part in ("color", "depth", "pose", "intrinsic"):
        (folder / part).mkdir(parents=True)
    intrinsic = np.eye(4)
    intrinsic[:3, :3] = K
    for kind in ("color", "depth"):
        np.savetxt(folder / "intrinsic" / f"intrinsic_{kind}.txt", intrinsic, fmt="%f")
    for number, pose in enumerate(poses):
        Image.new("RGB", (8, 6), (0, number, 0)).save(folder / "color" / f"{number}.jpg")
        Image.fromarray(np.full((6, 8), 2000, np.uint16)).save(folder / "depth" / f"{number}.png")
        np.savetxt(folder / "pose" / f"{number}.txt", pose, fmt="%f")


def write_sens(path, poses, depth_kind=1, version=4):
    intrinsic = np.eye(4, dtype="<f4")
    intrinsic[:3, :3] = K
    unit = np.eye(4, dtype="<f4").tobytes()
    name = b"StructureSensor"
    content = struct.pack("<IQ", version, len(name)) + name
    content += intrinsic.tobytes() + unit + intrinsic.tobytes() + unit
    content += struct.pack("<2i4IfQ", 2, depth_kind, 8, 6, 8, 6, 1000.0, len(poses))
    for number, pose in enumerate(poses):
        jpeg = io.BytesIO()
        Image.new("RGB", (8, 6), (0, 10 * number, 0)).save(jpeg, "JPEG")
        depth = np.full((6, 8), 1000 + number, "<u2").tobytes()
        depth = zlib.compress(depth) if depth_kind == 1 else depth
        content += np.asarray(pose, "<f4").tobytes()
        content += struct.pack("<4Q", 7, 8, len(jpeg.getvalue()), len(depth)) + jpeg.getvalue() + depth
    path.write_bytes(content)


def class_ids(*names):
    space = LabelMapping.load("nyu40_to_scannet20").target
    return [space.class_names.index(n) if n else 255 for n in names]


def test_a_scene_with_its_labels(tmp_path):
    folder = write_scene(tmp_path)
    assert is_scannet(folder)
    assert is_scannet(tmp_path)
    source = ScanNet(folder)
    assert (len(source), source.name, source.label_space.name) == (1, "scannet", "scannet20")
    sample = source.load_sample(0)
    assert sample.key == f"scannet/{NAME}"
    assert sample.images == ()
    assert source.load_occlusion(0) is None
    assert sample.class_id.tolist() == class_ids("wall", "floor", "other_furniture", None)
    # aligned: x = -y, y = x, z = z - 0.5; then the middle (-4, 2) and the floor are the origin
    np.testing.assert_allclose(sample.cloud.points, [[2, -1, 0], [2, 1, 0], [-2, 1, 2], [-2, -1, 0]], atol=1e-6)
    homogeneous = np.c_[sample.cloud.points, np.ones(4)]
    np.testing.assert_allclose((homogeneous @ sample.world_from_lidar.T)[:, :3], VERTICES, atol=1e-6)
    fields = source.load_scan_fields(0)
    np.testing.assert_array_equal(np.stack([fields[n] for n in ("red", "green", "blue")], axis=1), RGB)
    assert "instance_id" not in fields


def test_without_axis_alignment_the_axes_stay(tmp_path):
    points = ScanNet(write_scene(tmp_path), ScanNetConfig(axis_align=False)).load_sample(0).cloud.points
    np.testing.assert_allclose(points, VERTICES - [2, 4, 0.5], atol=1e-6)


def test_labels_from_the_annotation(tmp_path):
    folder = write_scene(tmp_path / "scans", labels=None)
    write_annotation(folder)
    with pytest.raises(InputError, match=r"has no labels.ply; to read its annotation, put scannetv2-labels"):
        ScanNet(folder).load_sample(0)
    write_table(tmp_path / "scannetv2-labels.combined.tsv")
    source = ScanNet(tmp_path)
    assert source.load_sample(0).class_id.tolist() == class_ids("wall", "wall", "chair", None)
    assert source.load_scan_fields(0)["instance_id"].tolist() == [1, 1, 2, 0]
    write_annotation(folder, ("fog", "fog"))  # a category without a class of NYU40
    assert source.load_sample(0).class_id.tolist() == [255] * 4
    write_annotation(folder, ("wall", "ghost"))
    with pytest.raises(InputError, match="category 'ghost' is not in"):
        source.load_sample(0)


def test_a_scene_of_the_hidden_test_set_has_no_labels(tmp_path):
    source = ScanNet(write_scene(tmp_path, labels=None))
    assert source.label_space is None
    assert source.load_sample(0).class_id is None


def test_known_invalid_ids_are_ignored_and_unknown_ones_refused(tmp_path):
    assert ScanNet(write_scene(tmp_path / "a", labels=(50, 149, 40, 16))).load_sample(0).class_id.tolist() == (
        class_ids(None, None, None, "curtain")
    )
    with pytest.raises(InputError, match=r"labels of .*scene0011_00: ids 41 are none of nyu40"):
        ScanNet(write_scene(tmp_path / "b", labels=(1, 2, 3, 41))).load_sample(0)


def test_the_mapping_holds_the_twenty_classes_of_the_benchmark():
    mapping = LabelMapping.load("nyu40_to_scannet20")
    evaluated = [raw_id for raw_id, class_id in sorted(mapping.class_ids.items()) if class_id != 255]
    assert evaluated == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39]
    assert [mapping.class_ids[i] for i in evaluated] == list(range(20))


def test_views_of_exported_frames(tmp_path):
    folder = write_scene(tmp_path)
    away = LOOKING_ALONG_Y.copy()
    away[:3, 3] = [2, 100, 1]
    write_frames(folder, [LOOKING_ALONG_Y, np.full((4, 4), -np.inf), away, LOOKING_ALONG_Y])
    source = ScanNet(folder, ScanNetConfig(views=ViewChoice(step=1, most=30)))
    sample = source.load_sample(0)
    assert [image.name for image in sample.images] == ["view_000000", "view_000002", "view_000003"]
    image = sample.images[0]
    # world (1, 2, 0.5): 1 m left of the camera, 0.5 m below it, 2 m ahead
    np.testing.assert_allclose(image.camera_from_lidar @ [*sample.cloud.points[0], 1], [-1, 0.5, 2, 1], atol=1e-5)
    projection = project_cloud(sample.cloud.points, image.camera_from_lidar, image.camera, None, 0.1)
    assert projection.point_index.tolist() == [2, 3]  # the two that are 2 m ahead lie 5 px beside the middle, outside
    seen = project_cloud(
        sample.cloud.points, image.camera_from_lidar, image.camera, source.load_occlusion(0), 0.1
    ).point_index
    assert not {2, 3} & set(seen.tolist())  # 6 m away, but the depth image has a wall at 2 m
    away_image = sample.images[1]
    assert not len(project_cloud(sample.cloud.points, away_image.camera_from_lidar, away_image.camera, None, 0.1))


def test_sens_and_exported_frames_say_the_same(tmp_path):
    poses = [LOOKING_ALONG_Y, np.full((4, 4), -np.inf), LOOKING_ALONG_Y]
    folder = write_scene(tmp_path)
    write_sens(folder / f"{NAME}.sens", poses)
    source = ScanNet(folder, ScanNetConfig(views=ViewChoice(step=2, most=30)))
    sample = source.load_sample(0)
    assert [image.name for image in sample.images] == ["view_000000", "view_000002"]
    assert int(sample.images[1].image[0, 0, 1]) == pytest.approx(20, abs=2)
    occlusion = source.load_occlusion(0)
    assert [float(view.depth[0, 0]) for view in occlusion.views] == pytest.approx([1.0, 1.002])
    frames = SensFrames(folder / f"{NAME}.sens")
    assert (len(frames), frames.names, frames.world_from_camera(1)) == (3, ("0", "1", "2"), None)
    np.testing.assert_allclose(frames.world_from_camera(2), LOOKING_ALONG_Y)
    write_frames(folder / "frames", poses)  # exported frames win
    exported = ScanNet(folder, ScanNetConfig(views=ViewChoice(step=2))).load_sample(0)
    for one, other in zip(sample.images, exported.images, strict=True):
        assert (one.name, one.camera) == (other.name, other.camera)
        np.testing.assert_allclose(one.camera_from_lidar, other.camera_from_lidar, atol=1e-6)
    assert int(exported.images[1].image[0, 0, 1]) == pytest.approx(2, abs=2)


def test_uncompressed_depth_and_damaged_sens(tmp_path):
    path = tmp_path / "a.sens"
    write_sens(path, [LOOKING_ALONG_Y], depth_kind=0)
    assert SensFrames(path).load_depth(0)[0, 0] == pytest.approx(1.0)
    write_sens(path, [LOOKING_ALONG_Y] * 2)
    whole = path.read_bytes()
    for size in (10, 300, len(whole) - 400, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"a.sens was cut off"):
            SensFrames(path)
    write_sens(path, [LOOKING_ALONG_Y], version=3)
    with pytest.raises(InputError, match="version 4, it says 3"):
        SensFrames(path)
    write_sens(path, [LOOKING_ALONG_Y], depth_kind=2)
    with pytest.raises(InputError, match="depth compression 2 is not supported"):
        SensFrames(path)
    path.write_bytes(whole[:-1] + b"x")
    with pytest.raises(InputError, match="depth image 1 is damaged"):
        SensFrames(path).load_depth(1)
    with pytest.raises(InputError, match=r"none.sens does not exist"):
        SensFrames(tmp_path / "none.sens")


def test_a_split_chooses_and_orders_scenes(tmp_path):
    for number in (0, 1, 2):
        write_scene(tmp_path / "scans", f"scene000{number}_00")
    assert [s.name for s in ScanNet(tmp_path).scenes] == ["scene0000_00", "scene0001_00", "scene0002_00"]
    split = tmp_path / "val.txt"
    split.write_text("scene0002_00\nscene0000_00\n")
    source = ScanNet(tmp_path, ScanNetConfig(split=str(split)))
    assert [source.load_sample(i).key for i in range(2)] == ["scannet/scene0002_00", "scannet/scene0000_00"]
    split.write_text("scene0002_00\nscene0707_00\n")
    with pytest.raises(InputError, match=r"1 of them are not in .*: scene0707_00"):
        ScanNet(tmp_path, ScanNetConfig(split=str(split)))
    with pytest.raises(InputError, match="does not exist; expected a text file"):
        ScanNet(tmp_path, ScanNetConfig(split=str(tmp_path / "no.txt")))
    with pytest.raises(InputError, match="holds no ScanNet scene"):
        ScanNet(tmp_path / "scans" / "scene0000_00" / "x")


def test_text_meshes_are_read_as_well(tmp_path):
    path = tmp_path / "a.ply"
    header = "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty uchar red\nend_header\n"
    path.write_text(header + "1.5 7\n-2 255\n")
    vertices = load_ply_vertices(path)
    assert vertices["x"].tolist() == [1.5, -2]
    assert vertices["red"].tolist() == [7, 255]
    path.write_text(header + "1.5 7\n")
    with pytest.raises(InputError, match="vertex 1 of 2 must be 2 numbers"):
        load_ply_vertices(path)


def test_damaged_scenes(tmp_path):
    folder = write_scene(tmp_path)
    mesh = folder / f"{NAME}_vh_clean_2.ply"
    whole = mesh.read_bytes()
    mesh.write_bytes(whole[:-60])
    with pytest.raises(InputError, match="was cut off: 4 vertices need 64 bytes"):
        ScanNet(folder).load_sample(0)
    mesh.write_bytes(b"obj" + whole[3:])
    with pytest.raises(InputError, match="does not begin with 'ply'"):
        ScanNet(folder).load_sample(0)
    mesh.write_bytes(whole.replace(b"end_header", b"comment"))
    with pytest.raises(InputError, match="has no end_header"):
        ScanNet(folder).load_sample(0)
    mesh.write_bytes(whole.replace(b"property float z", b"property float w"))
    with pytest.raises(InputError, match="have no z, only x, y, w"):
        ScanNet(folder).load_sample(0)
    mesh.write_bytes(whole.replace(b"vertex 4", b"vertex 3"))
    with pytest.raises(InputError, match=r"labels.ply labels 4 vertices, the mesh has 3"):
        ScanNet(folder).load_sample(0)
    mesh.write_bytes(whole)
    (folder / f"{NAME}.txt").write_text("axisAlignment = 1 2 x\n")
    with pytest.raises(InputError, match="axisAlignment must be 16 numbers"):
        ScanNet(folder).load_sample(0)
    (folder / f"{NAME}.txt").unlink()
    write_annotation(folder)
    (folder / f"{NAME}.aggregation.json").write_text("{")
    with pytest.raises(InputError, match=r"aggregation.json is damaged"):
        ScanNet(folder).load_scan_fields(0)
    (folder / f"{NAME}.aggregation.json").write_text("{}")
    with pytest.raises(InputError, match="are no ScanNet annotation: KeyError"):
        ScanNet(folder).load_scan_fields(0)
