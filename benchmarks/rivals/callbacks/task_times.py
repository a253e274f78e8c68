# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
"""A callback of Ansible that prints how long each task took, from its start until its last item is done."""

import json
import sys
import time

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: task_times
type: stdout
short_description: seconds per task
description: Prints one JSON object for each task that ended well, and what went wrong to standard error.
"""


class CallbackModule(CallbackBase):
    """Prints instead of Ansible's own output."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "task_times"

    def v2_playbook_on_task_start(self, task, is_conditional):  # noqa: ARG002 - Ansible's signature
        """The clock starts."""
        self._begun = time.perf_counter()

    def v2_runner_on_ok(self, result):  # noqa: ARG002 - Ansible's signature
        """The clock stops; for a loop, when its last item is done."""
        sys.stdout.write(json.dumps({"seconds": time.perf_counter() - self._begun}) + "\n")

    def v2_runner_on_failed(self, result, ignore_errors=False):  # noqa: ARG002, FBT002 - as above
        """Say why."""
        sys.stderr.write(f"{result._result}\n")

    def v2_runner_on_unreachable(self, result):
        """Say why."""
        sys.stderr.write(f"{result._result}\n")
