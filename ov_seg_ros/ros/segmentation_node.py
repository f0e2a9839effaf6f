"""The ROS 2 node: PointCloud2 in, labelled PointCloud2 out, as a lifecycle node that starts by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger

from ov_seg_ros.core.errors import ConfigError, OvSegError
from ov_seg_ros.refinement.mapped_segmenter import map_classes
from ov_seg_ros.refinement.refined_segmenter import SegmenterLike, refine_segmenter
from ov_seg_ros.ros.diagnostics import WARN
from ov_seg_ros.ros.diagnostics_publisher import DiagnosticsPublisher, Status
from ov_seg_ros.ros.parameter_schema import ParameterSchema
from ov_seg_ros.ros.parameters import NodeParameters, change_parameter, declare_parameters
from ov_seg_ros.ros.process_end import limit_end
from ov_seg_ros.ros.process_memory import FreeMemory, keep_freed_memory
from ov_seg_ros.ros.segmentation_session import SegmentationSession
from ov_seg_ros.runtime.warm_up import draw_street

NAME = "segmentation_node"
SegmenterFactory = Callable[[NodeParameters], SegmenterLike]


def load_segmenter(parameters: NodeParameters) -> SegmenterLike:
    """Loads the student that the parameters name.

    Raises:
        ModelError: the model file is missing, corrupt or of another version.
        ConfigError: the execution provider is not there, or ``require_gpu`` is set and it is a CPU.
    """
    from ov_seg_ros.runtime.model_file import shipped_model_path
    from ov_seg_ros.runtime.network import ON_CPU
    from ov_seg_ros.runtime.segmenter import Segmenter

    path = parameters.model_path or shipped_model_path()
    segmenter = Segmenter.load(path, provider=parameters.provider, num_threads=parameters.num_threads)
    if parameters.require_gpu and segmenter.provider in ON_CPU:
        raise ConfigError(
            f"require_gpu is true, but the student {segmenter.provider_note}: install onnxruntime-gpu and the NVIDIA "
            "driver (pip install 'ov_seg_ros[gpu]'), or set require_gpu to false"
        )
    return segmenter


class SegmentationNode(LifecycleNode):
    """Labels every scan it can.

    Configure loads and warms up the student (and the refinement of its labels), activate subscribes, deactivate
    unsubscribes, cleanup frees the student.
    """

    def __init__(
        self,
        segmenter_factory: SegmenterFactory = load_segmenter,
        free_memory: FreeMemory | None = None,
        **options: Any,
    ) -> None:
        """Reads the parameters; does nothing else yet.

        Args:
            segmenter_factory: makes the student from the parameters.
            free_memory: asked once a second to give memory back; None leaves that to the C library.
            options: of rclpy.node.Node (context, parameter_overrides, namespace ...).

        Raises:
            ConfigError: a parameter is unknown, of the wrong type or out of its range.
        """
        super().__init__(NAME, **options)
        self._segmenter_factory = segmenter_factory
        self._free_memory = free_memory
        self._schema = ParameterSchema.load(NAME)
        self._session: SegmentationSession | None = None
        self._state = "unconfigured"
        try:
            self._values = declare_parameters(self, self._schema)
            self._settings = NodeParameters.from_values(self._values)
        except ConfigError:
            self.destroy_node()
            raise
        self.add_on_set_parameters_callback(self._change_parameters)
        self._diagnostics = DiagnosticsPublisher(self, self._statuses, self._every_second)

    def autostart(self) -> bool:
        """Configures and activates, if the parameter ``autostart`` says so.

        Returns:
            False if it should have become active and did not; the reason is in the log.
        """
        if not self._settings.autostart:
            return True
        done = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == done and self.trigger_activate() == done

    def close(self) -> None:
        """Ends the worker and frees the student, whatever the state."""
        if self._session is not None:
            self._session.destroy()
            self._session = None

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads the student, warms it up, and creates the outputs."""
        return self._transition("inactive", self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribes to the clouds."""
        return self._transition("active", self._configured.activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribes."""
        return self._transition("inactive", self._configured.deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the student and the outputs."""
        return self._transition("unconfigured", self.close)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees everything."""
        return self._transition("finalized", self.close)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees everything; the node may be configured again."""
        return self._transition("unconfigured", self.close)

    @property
    def _configured(self) -> SegmentationSession:
        """The session; the lifecycle sees to it that there is one."""
        assert self._session is not None
        return self._session

    def _transition(self, state: str, action: Callable[[], Any]) -> TransitionCallbackReturn:
        """Runs one transition; rclpy itself would swallow the reason of a failure."""
        try:
            action()
        except OvSegError as error:
            self.get_logger().fatal(f"cannot start: {error}")
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            if not self.context.ok():  # SIGTERM came in the middle: nothing to report
                return TransitionCallbackReturn.ERROR
            self.get_logger().fatal(f"cannot become {state}: {type(error).__name__}: {error}")
            return TransitionCallbackReturn.ERROR
        self._state = state
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        refinement = self._settings.refinement
        refined = refine_segmenter(self._segmenter_factory(self._settings), refinement)
        segmenter = map_classes(refined, self._settings.class_map)
        segmenter.warm_up()
        if self._settings.cameras:
            draw_street()  # overlays are drawn between scans, which must not wait for the first one
        self._session = SegmentationSession(self, self._settings, segmenter)
        self.get_logger().info(
            f"student {segmenter.sha256[:12]}, {len(segmenter.description.label_space)} classes, {segmenter.provider}, "
            f"refinement: {refinement}"
        )

    def _change_parameters(self, parameters: Sequence[Any]) -> SetParametersResult:
        try:
            values = dict(self._values)
            for parameter in parameters:
                if parameter.name in self._values:
                    values = change_parameter(values, self._schema, parameter.name, parameter.value)
            settings = NodeParameters.from_values(values)
            if self._session is not None:
                self._session.change_parameters(settings)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._values, self._settings = values, settings
        return SetParametersResult(successful=True)

    def _every_second(self) -> None:
        if self._free_memory is not None:
            self._free_memory.give_back()
        if self._session is not None:
            self._session.check_inputs()

    def _statuses(self) -> tuple[list[Status], str]:
        if self._session is None:
            return [Status("segmentation", WARN, f"not active (lifecycle state {self._state})", {})], ""
        return self._session.statuses(self._state)


def main(args: Sequence[str] | None = None, segmenter_factory: SegmenterFactory = load_segmenter) -> int:
    """Runs the node until Ctrl-C, SIGTERM or an external shutdown; the process should end then.

    Args:
        args: command line, the process's own if None.
        segmenter_factory: makes the student from the parameters.

    Returns:
        Exit code: 0 after an orderly end, 1 if the node could not start (the reason is in the log).
    """
    node = None
    keeps_memory = keep_freed_memory()
    try:
        _start_rclpy(args)
        node = SegmentationNode(segmenter_factory, FreeMemory() if keeps_memory else None)
        if not node.autostart():
            return 1 if rclpy.ok() else 0
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except OvSegError as error:
        get_logger(NAME).fatal(f"cannot start: {error}")
        return 1
    except Exception:
        if rclpy.ok():
            raise  # otherwise a signal ended rclpy between two waits of the executor, which then finds no context
    finally:
        if node is not None:
            node.close()
        limit_end()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _start_rclpy(args: Sequence[str] | None) -> None:
    """Starts rclpy.

    Raises:
        ConfigError: what stands after --ros-args cannot be read.
    """
    try:
        rclpy.init(args=None if args is None else list(args))
    except Exception as error:  # rcl's and rclpy's have no common base class
        raise ConfigError(
            f"rclpy does not start: {error}; look at the names, values and files after --ros-args"
        ) from error


if __name__ == "__main__":
    raise SystemExit(main())
