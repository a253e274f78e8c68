"""The web pages and API answers of OSCam that concern accounts; pure functions."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from twinline.sandbox.httpd import Response
from twinline.sandbox.oscam_parser import Account, api_date
from twinline.sandbox.sessions import Session

VERSION = "2.26.01-11942"
PROTOCOL = "cccam_ext (2.3.0-3367)"
ONLINE_SECONDS = 25  # `hideclient_to`: how long after its last activity a client counts as active.

# Shown for each account and always at its default here, in the daemon's order after `uniq`.
_PLAIN_FIELDS = (
    *(("sleep", "0"), ("monlevel", "0"), ("au", ""), ("services", ""), ("caid", ""), ("ident", "")),
    *(("chid", ""), ("class", ""), ("betatunnel", ""), ("suppresscmd08", "0"), ("sleepsend", "0")),
    *(("numusers", "0"), ("penalty", "0"), ("cccmaxhops", "10"), ("cccreshare", "-1")),
    *(("cccignorereshare", ""), ("cccstealth", ""), ("keepalive", "1")),
)


@dataclass(frozen=True, slots=True)
class View:
    """What the pages show: the live accounts, every session with its account's name, and the clocks."""

    accounts: Sequence[Account]
    sessions: Sequence[tuple[str, Session]]
    loop_time: float
    scale: float
    wall_time: float
    started: float
    readonly: bool
    hides_idle: bool

    def seconds(self, session: Session) -> int:
        """How long a session has been idle: since its login, as nothing is ever asked on it."""
        return int((self.loop_time - session.since) / self.scale)

    def latest(self, user: str) -> Session | None:
        """The newest session of a user."""
        found = [session for name, session in self.sessions if name == user]
        return max(found, key=lambda session: session.since, default=None)


def _xml(view: View, body: str) -> Response:
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(view.started))
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<oscam version="{VERSION}" revision="11942" starttime="{started}" '
        f'uptime="{int(view.wall_time - view.started)}" readonly="{int(view.readonly)}">\n{body}</oscam>\n'
    )
    return Response(text.encode("latin-1"), headers=(("Content-Type", "text/xml"),))


def html(message: str) -> Response:
    """A page of the web interface with one message in it."""
    text = f"<HTML><HEAD><TITLE>OSCAM {VERSION}</TITLE></HEAD><BODY>\n<DIV>{message}</DIV>\n</BODY></HTML>\n"
    return Response(text.encode("latin-1"), headers=(("Content-Type", "text/html"),))


def api_error(view: View, message: str) -> Response:
    """The API's way to say no: an ordinary 200 answer with an `error` element."""
    return _xml(view, f"\t<error>{escape(message)}</error>\n")


def userstats(view: View, label: str) -> Response:
    """All accounts, or those named `label`, with totals over all; an unknown label is an error."""
    shown = [account for account in view.accounts if not label or account.user == label]
    if label and not shown:
        return api_error(view, f"Invalid client {label}")
    disabled = sum(account.disabled != 0 for account in view.accounts)
    expired = sum(account.expired(view.wall_time) for account in view.accounts)
    active = sum(not a.disabled and not a.expired(view.wall_time) for a in view.accounts)
    connected = sum(_connected(view, account.user) for account in view.accounts)
    totals = (
        *(("cwok", 0), ("cwnok", 0), ("cwignore", 0), ("cwtimeout", 0), ("cwcache", 0), ("cwtun", 0)),
        *(("usertotal", len(view.accounts)), ("userdisabled", disabled), ("userexpired", expired)),
        *(("useractive", active), ("userconnected", connected), ("useronline", 0)),
    )
    users = "".join(_user(view, account) for account in shown)
    lines = "".join(f"        <{key}>{number}</{key}>\n" for key, number in totals)
    return _xml(view, f"    <users>\n{users}    </users>\n    <totals>\n{lines}    </totals>\n")


def _connected(view: View, user: str) -> bool:
    # The web request itself is a client without a name, so a nameless account is always "online".
    return not user or any(name == user for name, _ in view.sessions)


def _user(view: View, account: Account) -> str:
    session = view.latest(account.user)
    status = "offline"
    if _connected(view, account.user):
        status = "online" if session is None or view.seconds(session) < ONLINE_SECONDS else "connected"
    if account.disabled:
        status += " (disabled)"
    elif account.expired(view.wall_time):
        status += " (expired)"
    address = "" if session is None else session.address
    protocol = "" if session is None else PROTOCOL
    stats = (
        *(("cwok", "0"), ("cwnok", "0"), ("cwignore", "0"), ("cwtimeout", "0"), ("cwcache", "0")),
        *(("cwtun", "0"), ("cwlastresptime", ""), ("emmok", "0"), ("emmnok", "0"), ("cwrate", "0.00")),
        *(("timeonchannel", ""), ("expectsleep", "")),
    )
    lines = "".join(f"                <{key}>{text}</{key}>\n" for key, text in stats)
    return (
        f'        <user name="{_attribute(account.user)}" status="{status}" ip="{address}" '
        f'protocol="{protocol}">\n            <stats>\n{lines}            </stats>\n        </user>\n'
    )


def _attribute(text: str) -> str:
    return escape(text, {'"': "&quot;", "'": "&#39;"})


def userconfig(view: View, account: Account) -> Response:
    """One account as loaded, the password in clear; the words of the account stand unescaped."""
    fields = (
        *(("user", account.user), ("pwd", account.password), ("description", account.description)),
        *(("disabled", str(account.disabled)), ("expdate", api_date(account.expires)), ("failban", "0")),
        *(("allowedtimeframe", ""), ("group", account.group_text), ("hostname", "")),
        *(("uniq", str(account.uniq)), *_PLAIN_FIELDS),
    )
    lines = "".join(f"\t\t<{key}>{text}</{key}>\n" for key, text in fields)
    return _xml(view, f"\t<account>\n{lines}    </account>\n")


def _shown_sessions(view: View) -> list[tuple[str, Session]]:
    return [
        (name, session)
        for name, session in view.sessions
        if not view.hides_idle or view.seconds(session) < ONLINE_SECONDS
    ]


def status_xml(view: View) -> Response:
    """The connections; idle ones are hidden by default."""
    own = "".join(
        f'      <client type="{kind}" name="{name}" desc="" protocol="{protocol}" protocolext="" au="off" '
        'thid="0x0">\n      </client>\n'
        for kind, name, protocol in (("s", "root", "server"), ("h", "root", "http"))
    )
    clients = "".join(_status_client(view, name, session) for name, session in _shown_sessions(view))
    return _xml(view, f"\t<status>\n{own}{clients}\t</status>\n\t<log><![CDATA[ \n\t]]></log>\n")


def _status_client(view: View, name: str, session: Session) -> str:
    seconds = view.seconds(session)
    return (
        f'      <client type="c" name="{_attribute(name)}" desc="" protocol="{PROTOCOL}" protocolext="" '
        f'au="off" thid="{id(session):#x}">\n'
        '         <request caid="0000" srvid="0000" ecmtime="" ecmhistory="" answered=""></request>\n'
        f'         <times login="{_login_time(view, session)}" online="{seconds}" idle="{seconds}"></times>\n'
        f'         <connection ip="{session.address}" port="{session.client_port}">OK</connection>\n'
        "      </client>\n"
    )


def _login_time(view: View, session: Session) -> str:
    login = view.wall_time - (view.loop_time - session.since)
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(login))


def status_json(view: View) -> Response:
    """The same as JSON, with the totals; `uca` counts every session, idle ones included."""
    clients = [
        {
            "type": "c",
            "name": name,
            "desc": "",
            "protocol": PROTOCOL,
            "times": {
                "login": _login_time(view, session),
                "online": str(view.seconds(session)),
                "idle": str(view.seconds(session)),
            },
            "connection": {"ip": session.address, "port": str(session.client_port), "$": "OK"},
        }
        for name, session in _shown_sessions(view)
    ]
    expired = sum(account.expired(view.wall_time) for account in view.accounts)
    disabled = sum(account.disabled != 0 for account in view.accounts)
    answer = {
        "oscam": {
            "version": VERSION,
            "revision": "11942",
            "starttime": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(view.started)),
            "uptime": str(int(view.wall_time - view.started)),
            "readonly": str(int(view.readonly)),
            "sysinfo": {},
            "totals": {
                "total_users": len(view.accounts),
                "total_disabled": disabled,
                "total_expired": expired,
                "total_active": sum(not a.disabled and not a.expired(view.wall_time) for a in view.accounts),
                "total_connected": sum(_connected(view, account.user) for account in view.accounts),
                "total_online": 0,
            },
            "status": {"client": clients, "ucs": len(clients), "uca": len(view.sessions), "ucac": 0},
        }
    }
    return Response(json.dumps(answer).encode(), headers=(("Content-Type", "text/javascript"),))
