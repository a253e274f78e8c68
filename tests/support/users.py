"""A system user for one test session; one that a killed session left behind is removed by the next."""

import contextlib
import os
import pwd
import re
import subprocess
from collections.abc import Generator
from typing import Final

from tests.support.proc import alive
from tests.support.root import require_root

_NAME: Final = re.compile(r"twltest-(\d+)")


@contextlib.contextmanager
def reserved_user() -> Generator[str]:
    """The name of a user that does not exist yet; whoever has it at the end is removed."""
    require_root()
    for entry in pwd.getpwall():
        match = _NAME.fullmatch(entry.pw_name)
        if match is not None and not alive(int(match[1])):
            _remove(entry.pw_name)
    name = f"twltest-{os.getpid()}"
    yield name
    _remove(name)


def _remove(name: str) -> None:
    # By force, for its last process may just be ending. 6: there is none. Its home is a folder of the test's.
    done = subprocess.run(["/usr/sbin/userdel", "--force", name], check=False, capture_output=True, text=True)
    if done.returncode not in (0, 6):
        raise AssertionError(f"userdel {name}: {done.stderr}")
