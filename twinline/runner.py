"""How workflows run: in Temporal's sandbox, without its two most expensive habits.

The sandbox imports a workflow's module again for every run, and is entered again for every payload, to ask in which
context that is to be converted. Ours hold order and time and nothing else (tests/house/test_workflow_imports.py reads
them all), so that one import serves every run; and our converter knows of no context. What the sandbox refuses while a
workflow runs, such as opening a file, it refuses as before.
"""

from typing import Any

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.converter import StorageDriverStoreContext
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import Info


class HouseRunner(WorkflowRunner):
    """Runs the workflows of a worker, and of what replays them; `package` is where their modules are."""

    def __init__(self, package: str = "workflows") -> None:
        self._sandbox = SandboxedWorkflowRunner(
            restrictions=SandboxRestrictions.default.with_passthrough_modules(package)
        )

    def prepare_workflow(self, defn: Any) -> None:
        """See that a workflow can run here."""
        self._sandbox.prepare_workflow(defn)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """Begin a run."""
        return _WithoutContext(self._sandbox.create_instance(det))

    def set_worker_level_failure_exception_types(self, types: Any) -> None:
        """Take over what the worker says of failures."""
        self._sandbox.set_worker_level_failure_exception_types(types)


class _WithoutContext(WorkflowInstance):
    def __init__(self, inner: WorkflowInstance) -> None:
        self._inner = inner

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        return self._inner.activate(act)

    def get_serialization_context(self, command_info: Any) -> None:
        """Every payload is converted in the same way, whatever it belongs to."""

    def get_external_store_context(self, command_info: Any) -> StorageDriverStoreContext:  # noqa: ARG002 - the SDK's
        return StorageDriverStoreContext(target=None)

    def get_info(self) -> Info:
        return self._inner.get_info()

    def get_thread_id(self) -> int | None:
        return self._inner.get_thread_id()
