# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
"""pyinfra's `files.line` over a kept connection, by its Python interface: one operation per change."""

import re

from gevent import monkey

monkey.patch_all()

from pyinfra.api import Config, Inventory, State  # noqa: E402 - what it imports has to be patched before
from pyinfra.api.connect import connect_all, disconnect_all  # noqa: E402 - as above
from pyinfra.api.operation import add_op  # noqa: E402 - as above
from pyinfra.api.operations import run_ops  # noqa: E402 - as above
from pyinfra.operations import files, server  # noqa: E402 - as above

from benchmarks.rivals.dialogue import Change, greeted, serve  # noqa: E402 - as above


def main() -> None:
    """Connect once and serve."""
    door = greeted()
    login = {
        "ssh_port": door.port,
        "ssh_user": door.user,
        "ssh_key": door.key,
        "ssh_known_hosts_file": door.known_hosts,
        "ssh_strict_host_key_checking": "yes",
        "ssh_allow_agent": False,
    }
    inventory = Inventory((["127.0.0.1"], login))
    state = State(inventory, Config())
    connect_all(state)

    def run() -> None:
        run_ops(state)
        # An operation runs once; without these it would be found finished. Connection and facts stay.
        state.op_meta.clear()
        state.is_executing = False
        for host in inventory:
            host.op_hash_order.clear()
            state.ops[host].clear()

    def change(path: str, changes: list[Change]) -> None:
        for username, record in changes:
            add_op(state, files.line, path=path, line=rf"^F: {re.escape(username)} .*$", replace=record)
        run()

    add_op(state, server.shell, commands=["true"])
    run()
    serve(change)
    disconnect_all(state)


if __name__ == "__main__":
    main()
