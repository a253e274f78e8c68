"""Status pages of a daemon that reloads in no time: every question is answered from the file as it stands."""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.hosts.judge import Kind, Seen
from twinline.sandbox.multics_parser import EndDate


class Pages:
    """What the pages show, and what was switched off on them."""

    def __init__(self, kind: Kind, accounts: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.off: set[str] = set()
        self._kind = kind
        self._accounts = accounts

    def answer(self, target: str) -> str | None:
        """The page; None for a connection that is closed without a byte."""
        query = {name: values[-1] for name, values in parse_qs(urlsplit(target).query).items()}
        accounts = self._kind.see(self._accounts.read_bytes())
        if self._kind.protocol == "oscam":
            name = query.get("user") or query.get("label")
            found = next((each for each in accounts if each.user == name), None)
            if "label" in query:
                return f'<user name="{name}" status="offline">' if found is not None else "<error>Invalid client"
            return _userconfig(found) if "user" in query else "reloaded"
        action = query.get("action", "")
        if action == "json":
            names = ",".join(f'{{"name": "{each.user}","status": 0}}' for each in accounts)
            return f'[{{"id": 1,"port": 12000,"status": 1,"users": [{names}]}}]'
        found = next((each for each in accounts if each.user == query["name"]), None)
        if found is None:
            return None
        if action in ("disable", "enable"):
            (self.off.add if action == "disable" else self.off.discard)(found.user)
            return "OK"
        if action == "xml":
            return f"<status>{2 if found.user in self.off else 0}</status>"
        return _client(found)


def _userconfig(account: Seen | None) -> str:
    if account is None:
        return "<error>user not exist</error>"
    day = time.strftime("%Y-%m-%d", time.gmtime(int(str(account.end)))) if account.end is not None else ""
    return (
        f"<pwd>{account.password}</pwd><disabled>{int(not account.enabled)}</disabled>"
        f"<expdate>{day}</expdate><description>{account.mark}</description>"
    )


def _client(account: Seen) -> str:
    end = f"{account.end} {account.end.hour:02d}" if isinstance(account.end, EndDate) else ""
    rows = "".join(
        f"<tr><td>{key}</td><td>{value}</td></tr>" for key, value in (("enddate", end), ("rev", account.mark))
    )
    return f"<table>Additional Informations{rows}</table>"


@contextmanager
def serving(kind: Kind, accounts: Path) -> Generator[Pages]:
    """Serve the pages of one file on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.answer(self.path)
            self.close_connection = True
            if page is not None:
                # In one piece: in how many reads it is taken must not depend on time.
                self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n" + page.encode("latin-1"))

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    pages = Pages(kind, accounts, server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield pages
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
