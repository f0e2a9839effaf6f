"""The one home of the project's dependencies; builds with pip and with colcon (ament_python)."""

from glob import glob

from setuptools import find_packages, setup

PACKAGE = "ov_seg_ros"

# llvmlite is numba's own code generator, in the version that numba wants.
RUNTIME = ["numpy>=1.24,<3", "numba>=0.61", "llvmlite", "pyyaml>=6.0", "onnxruntime>=1.18,<2", "jsonschema>=4.0"]
RUNTIME += ["scipy>=1.10"]
BAGS = ["rosbags>=0.11.9,<0.12", "pillow>=10.1", "tqdm>=4.60"]
# rclpy and the message packages as wheels (ROS 2 Kilted). Not for a machine with a ROS 2
# installation: there they come with the distribution, see package.xml.
ROS = ["ros-rclpy>=9,<10", "ros-common-interfaces>=5,<6", "ros-rmw-fastrtps-cpp>=9,<10"]
VIZ = ["matplotlib>=3.7"]
SYNTHETIC = ["embreex>=2.17.7.post5,<5"]
TRAIN = ["torch>=2.4,<3", "onnx>=1.16,<2", *SYNTHETIC]
# Networks and text encoders of the 2D teachers; torchvision comes with open_clip.
TEACHERS = ["open_clip_torch>=2.26,<4", "transformers>=4.45,<6"]
# Provider triton. With a CUDA build of torch, which brings Triton on Linux.
TRITON = ["torch>=2.4,<3", "triton>=3.0,<4; platform_system == 'Linux'"]
# spconv (CPU wheel) is the reference that the sparse layers are compared with; on a GPU it can compute them.
# Triton's interpreter runs the GPU's kernels where there is none.
TEST = [
    "pytest>=8",
    "pytest-xdist>=3.5",
    "pytest-timeout>=2.3",
    "hypothesis>=6.100",
    "ruff>=0.8",
    "mypy>=1.13",
    "types-PyYAML",
    "spconv>=2.3.8,<3",
    "triton>=3.0,<4; platform_system == 'Linux' and platform_machine == 'x86_64'",
]

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Teach any robot's LiDAR any vocabulary, without one label",
    license="Apache-2.0",
    maintainer="ov_seg_ros developers",
    maintainer_email="ov-seg-ros@users.noreply.github.com",
    python_requires=">=3.10,<3.14",
    package_dir={"": "."},
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={"": ["*.json"], PACKAGE: ["models/*.onnx", "models/*.json"]},
    install_requires=[*RUNTIME, *BAGS],
    extras_require={
        "ros": ROS,
        "train": TRAIN,
        "teachers": [*TRAIN, *TEACHERS],
        "synthetic": SYNTHETIC,
        # One module with onnxruntime: uninstall that first, then install this (README.md, "GPU").
        "gpu": ["onnxruntime-gpu>=1.18,<2"],
        "triton": TRITON,
        "viz": VIZ,
        "test": TEST,
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/launch", glob("launch/*.launch.py")),
        (f"share/{PACKAGE}/config", glob("config/*.yaml") + glob("config/*.json")),
        (f"share/{PACKAGE}/config/label_spaces", glob("config/label_spaces/*.yaml")),
        (f"share/{PACKAGE}/config/class_maps", glob("config/class_maps/*.yaml")),
        (f"share/{PACKAGE}/config/rviz", glob("config/rviz/*.rviz")),
        (f"share/{PACKAGE}/config/fastdds", glob("config/fastdds/*.xml")),
    ],
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "ov-seg = ov_seg_ros.cli:main",
            "segmentation_node = ov_seg_ros.ros.segmentation_node:main",
            "replay = ov_seg_ros.ros.replay:main",
        ],
    },
)
