# pyright: basic, reportMissingModuleSource=false
"""Read, modify, rewrite with paramiko over a kept connection: the script that everybody has written once."""

import io
import re

import paramiko

from benchmarks.rivals.dialogue import Change, greeted, serve


def main() -> None:
    """Connect once and serve."""
    door = greeted()
    client = paramiko.SSHClient()
    client.load_host_keys(door.known_hosts)
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    client.connect("127.0.0.1", door.port, door.user, key_filename=door.key, allow_agent=False, look_for_keys=False)
    sftp = client.open_sftp()

    def change(path: str, changes: list[Change]) -> None:
        buffer = io.BytesIO()
        sftp.getfo(path, buffer)
        records = {username.encode(): record.encode() for username, record in changes}
        content = re.sub(rb"(?m)^F: (\S+) .*$", lambda match: records.get(match[1], match[0]), buffer.getvalue())
        # Pipelined, and without asking for the size afterwards: as fast as this can be.
        sftp.putfo(io.BytesIO(content), path, confirm=False)

    serve(change)
    client.close()


if __name__ == "__main__":
    main()
