"""The status pages of MultiCS, unescaped and sometimes invalid as the daemon sends them; pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from twinline.sandbox.httpd import Response
from twinline.sandbox.multics_clients import Client, Mark, Roster, Server
from twinline.sandbox.sessions import Session

TITLE = "MultiCS"


@dataclass(frozen=True, slots=True)
class View:
    """What the pages show, at the loop's clock `now`; `scale` turns its seconds into the daemon's."""

    roster: Roster
    now: float
    scale: float

    def online_seconds(self, session: Session) -> int:
        """How long a session has lasted, in whole seconds of the daemon's time."""
        return int((self.now - session.since) / self.scale)

    def servers(self, server: Server | None) -> Sequence[Server]:
        """One server, or all of them."""
        return self.roster.servers if server is None else [server]


def _answer(text: str, kind: str) -> Response:
    headers = (("Content-Type", kind),)
    if kind != "text/html":
        headers = (("Accept-Ranges", "bytes"), *headers)
    return Response(text.encode("latin-1"), headers=headers, length=False)


def unauthorised() -> Response:
    """The daemon's 401."""
    text = (
        f"<HTML><HEAD><TITLE>{TITLE}</TITLE></HEAD><BODY>"
        "<H2>Access forbidden, authorization required</H2></BODY></HTML>"
    )
    headers = (("WWW-Authenticate", f'Basic realm="{TITLE}"'), ("Content-Type", "text/html"))
    return Response(text.encode(), status="401 Unauthorized", headers=headers, length=False)


def done() -> Response:
    """The answer to disable and enable."""
    return _answer("OK", "text/html")


def index(view: View) -> Response:
    """The start page."""
    connected = sum(client.session is not None for client in view.roster.clients)
    return _answer(
        f"<HTML>\n<HEAD>\n<title>{TITLE} - Home</title>\n</HEAD>\n<BODY>\nMultiCS r82<br>\n"
        f"CCcam clients: {connected} / {len(view.roster.clients)}<br>\n</BODY>\n</HTML>\n",
        "text/html",
    )


def json_list(view: View, server: Server | None) -> Response:
    """All users of one server or of all; with two servers a brace and a comma are missing between them."""
    servers = "".join(_json_server(view, each) for each in view.servers(server))
    return _answer(f"[{servers}}}]", "application/json")


def _json_server(view: View, server: Server) -> str:
    users = ",".join(_json_user(view, client) for client in view.roster.on(server))
    return f'{{"id": {server.id},"port": {server.port},"status": {int(server.listening)},"users": [{users}]'


def _json_user(view: View, client: Client) -> str:
    text = f'{{"name": "{client.record.user}","status": {client.status}'
    if client.session is not None:
        text += f',"ip": "{client.session.address}","connected": {view.online_seconds(client.session)}'
    return text + "}"


def xml_list(view: View, server: Server | None) -> Response:
    """The same as XML; the address stands twice because its country is unknown."""
    parts = ["<multics>"]
    for each in view.servers(server):
        parts.append(f"\n<cccam><id>{each.id}</id><port>{each.port}</port><status>{int(each.listening)}</status>")
        for client in view.roster.on(each):
            parts.append(f"<user><name>{client.record.user}</name><status>{client.status}</status>")
            if client.session is not None:
                address = f"<ip>{client.session.address}</ip>"
                online = _days(view.online_seconds(client.session))
                parts.append(f"{address}{address}<connected>{online}</connected>")
            parts.append("</user>")
        parts.append("\n</cccam>")
    parts.append("\n</multics>")
    return _answer("".join(parts), "application/xml")


def row(view: View, client: Client) -> Response:
    """The list row of one client: HTML cells, escaped, in XML."""
    session, record = client.session, client.record
    name = f"{record.user}<br>{record.name}" if record.name else record.user
    connected = _days(view.online_seconds(session)) if session is not None else _offline_word(client)
    if record.end is not None:
        connected += f"<br>Expire: {record.end}"
    connected += (
        f'<table class="connect_data"><tr><td>Successful Login: {client.logins}</td>'
        f"<td>Aborted Connections: {client.failed_logins}</td>"
        "<td>Total Zapping: 0</td><td>Channel Freeze: 0</td></tr></table>"
    )
    cells = {
        "c0": f"<a href='/cccamclient?id={client.id}'>{name}</a>",
        "c1": "CCcam 2.3.0" if session is not None else " ",
        "c2": session.address if session is not None else "0.0.0.0",  # noqa: S104 - shown, not bound
        "c3_c": "online" if session is not None else "offline",
        "c3": connected,
        "c4": "0",
        "c5": "0",
        "c6": "0",
        "c7": "-- ms",
        "c8": " ",
    }
    lines = "".join(f"<{key}>{escape(text)}</{key}>\n" for key, text in cells.items())
    return _answer(f"<cccam>\n{lines}</cccam>\n", "application/xml")


def _offline_word(client: Client) -> str:
    words = {Mark.REMOVED: "Removed", Mark.EXPIRED: "Expired", Mark.DISABLED: "Disabled"}
    return next((word for mark, word in words.items() if mark in client.marks), "offline")


def client_xml(view: View, client: Client) -> Response:
    """One client as XML."""
    fields = [("id", str(client.id)), ("name", client.record.user), ("status", str(client.status))]
    if client.session is not None:
        online = view.online_seconds(client.session)
        fields += [
            ("ip", client.session.address),
            ("connected", _days(online)),
            ("version", "2.3.0"),
            ("busy", "0"),
            ("lastactivity", str(online)),
        ]
    fields += [("ecmnb", "0"), ("ecmaccepted", "0"), ("ecmok", "0")]
    lines = "".join(f"<{key}>{text}</{key}>\n" for key, text in fields)
    return _answer(f"<cccam>\n<client>\n{lines}</client>\n</cccam>\n", "application/xml")


def client_page(view: View, client: Client) -> Response:
    """One client's page; *Additional Informations* lists every key of the record, the last one first."""
    about = [("User name", client.record.user)]
    if client.session is None:
        about.append(("Status", "Disconnected"))
    else:
        about += [
            ("Status", "Connected"),
            ("Connection time", _days(view.online_seconds(client.session))),
            ("IP Address", client.session.address),
        ]
    if client.record.end is not None:
        about.append(("Expire date", str(client.record.end)))
    about += [("Successful Login", str(client.logins)), ("Aborted Connections", str(client.failed_logins))]
    served = [("Total ECM requests", "0"), ("Accepted ECM requests", "0"), ("Good ECM answer", "0")]
    tables = _table("CCcam Client Informations", about)
    if client.record.info:
        tables += _table("Additional Informations", client.record.info)
    tables += _table("ECM Statistics", served)
    return _answer(
        f"<HTML>\n<HEAD>\n<title>{TITLE} - CCcam Client</title>\n</HEAD>\n<body>\n<div id='mainDiv'>"
        '<table style="padding:0px; margin:0px;" width="100%"><tbody>\n'
        f'<tr><td style="vertical-align:top; width:400px;">\n{tables}</td></tr></tbody></table></div></body></html>',
        "text/html",
    )


def _table(title: str, rows: Sequence[tuple[str, str]]) -> str:
    lines = "".join(f"<tr><td class=left>{key}</td><td class=right>{text}</td></tr>\n" for key, text in rows)
    return f'<table class="infotable"><tbody>\n<tr><th colspan=2>{title}</th></tr>\n{lines}</tbody></table><br>\n'


def _days(seconds: int) -> str:
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    return f"{day:02d}d {hour:02d}:{minute:02d}:{second:02d}"
