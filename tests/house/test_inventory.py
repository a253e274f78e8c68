"""The inventory: what a good file gives, and what a broken one is told, key by key."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from twinline.errors import Category, Misconfigured, UnknownHost
from twinline.inventory import Inventory, Reload, load_inventory

PASSWORD = "hunter2-never-shown"
GOOD = f"""\
[service]
name = "Example Lines"
rights_holder = "Example Broadcasting Ltd."
abuse_contact = "abuse@example.com"
support_email = "support@example.com"
mail_from = "Example Lines <lines@example.com>"
public_url = "https://lines.example.com/"

[[host]]
name = "mc-eu1"
protocol = "multics"
ssh = {{ address = "mc1.example.com", user = "twinline", key = "ssh/mc1", known_hosts = "/etc/known_hosts" }}
accounts_file = "/var/etc/accounts.cfg"
state_dir = "/var/lib/twinline/"
timezone = "Europe/Berlin"
public = {{ address = "eu1.example.com", port = 12000 }}
status = {{ url = "http://127.0.0.1:5500/", user = "admin", password = "{PASSWORD}" }}

[[host]]
name = "os-eu1"
protocol = "oscam"
ssh = {{ address = "::1", port = 2222, user = "twinline", key = "ssh/os1", known_hosts = "known_hosts" }}
accounts_file = "/var/etc/oscam.user"
state_dir = "/var/lib/twinline"
timezone = "UTC"
public = {{ address = "eu1.example.com", port = 13000 }}
status = {{ url = "http://127.0.0.1:8888", user = "admin", password = "{PASSWORD}" }}
groups = [1, 64]

[[pair]]
name = "eu1"
region = "eu"
multics = "mc-eu1"
oscam = "os-eu1"
"""


def host_of(text: str, name: str) -> str:
    """The text of the table [[host]] of that name."""
    return next(part for part in re.split(r"(?m)^(?=\[)", text) if f'name = "{name}"' in part)


MULTICS_HOST, OSCAM_HOST = host_of(GOOD, "mc-eu1"), host_of(GOOD, "os-eu1")
PAIR = GOOD[GOOD.index("[[pair]]") :]

LoadText = Callable[[str], Inventory]


@pytest.fixture
def load_text(tmp_path: Path) -> LoadText:
    def load(text: str) -> Inventory:
        path = tmp_path / "inventory.toml"
        path.write_text(text)
        return load_inventory(path)

    return load


def changed(old: str, new: str, *, within: str = GOOD) -> str:
    """The good file with one text replaced where it first stands after the start of `within`."""
    start = GOOD.index(within)
    assert old in within
    return GOOD[:start] + within.replace(old, new, 1) + GOOD[start + len(within) :]


def test_a_good_file_gives_the_service_hosts_and_pairs(tmp_path: Path, load_text: LoadText) -> None:
    inventory = load_text(GOOD)
    multics, oscam = inventory.hosts
    assert inventory.service.rights_holder == "Example Broadcasting Ltd."
    assert inventory.service.public_url == "https://lines.example.com"
    assert (multics.protocol, oscam.protocol) == ("multics", "oscam")
    assert (multics.ssh.address, multics.ssh.port) == ("mc1.example.com", 22)
    assert (oscam.ssh.address, oscam.ssh.port) == ("::1", 2222)
    assert multics.ssh.key == tmp_path / "ssh/mc1"
    assert multics.ssh.known_hosts == Path("/etc/known_hosts")
    assert multics.state_dir == "/var/lib/twinline"
    assert multics.timezone == ZoneInfo("Europe/Berlin")
    assert multics.status.url == "http://127.0.0.1:5500"
    assert multics.status.password.get_secret_value() == PASSWORD
    assert inventory.host("os-eu1") is oscam
    assert inventory.pair("eu1").capacity == 5_000
    assert inventory.warnings == ()


def test_defaults_are_those_of_the_protocol(load_text: LoadText) -> None:
    multics, oscam = load_text(GOOD).hosts
    assert (multics.record_width, multics.quiet_seconds, multics.server_id) == (128, 3.0, 1)
    assert (multics.groups, multics.reload) == ((), None)
    assert (oscam.record_width, oscam.quiet_seconds) == (512, 0.0)
    assert (oscam.groups, oscam.reload) == ((1, 64), Reload(method="webif"))


def test_everything_optional_can_be_given(load_text: LoadText) -> None:
    text = changed(
        OSCAM_HOST,
        OSCAM_HOST + "record_width = 1024\nquiet_seconds = 2\n"
        'reload = { method = "command", argv = ["systemctl", "reload", "oscam"] }\n',
    ).replace(MULTICS_HOST, MULTICS_HOST + "record_width = 256\nserver_id = 2\n")
    multics, oscam = load_text(text).hosts
    assert (multics.record_width, multics.server_id) == (256, 2)
    assert (oscam.record_width, oscam.quiet_seconds) == (1024, 2.0)
    assert oscam.reload == Reload(method="command", argv=("systemctl", "reload", "oscam"))


def test_a_hangup_needs_only_its_pid_file(load_text: LoadText) -> None:
    reload = 'reload = { method = "sighup", pid_file = "/run/oscam.pid" }\n'
    assert load_text(changed(OSCAM_HOST, OSCAM_HOST + reload)).host("os-eu1").reload == Reload(
        method="sighup", pid_file="/run/oscam.pid"
    )


def test_regions_come_once_each_in_the_order_of_the_file(load_text: LoadText) -> None:
    more = "".join(
        host.replace("-eu1", f"-{name}").replace("/var", f"/srv/{name}")
        for name in ("us1", "eu2")
        for host in (MULTICS_HOST, OSCAM_HOST)
    )
    pairs = "".join(PAIR.replace("eu1", name).replace('"eu"', f'"{name[:2]}"') for name in ("us1", "eu2"))
    assert load_text(GOOD + more + pairs).regions() == ("eu", "us")


def test_a_capacity_above_ten_thousand_is_a_warning_only(load_text: LoadText) -> None:
    assert load_text(GOOD + "capacity = 10000\n").warnings == ()
    (warning,) = load_text(GOOD + "capacity = 10001\n").warnings
    assert 'pair[1] "eu1": capacity is 10001' in warning


def test_asking_for_what_is_not_there_names_what_is(load_text: LoadText) -> None:
    inventory = load_text(GOOD)
    with pytest.raises(UnknownHost, match='no host "mc-eu2"') as caught:
        inventory.host("mc-eu2")
    assert 'Did you mean "mc-eu1"?' in caught.value.hint
    with pytest.raises(Misconfigured, match='no pair "asia"') as caught:
        inventory.pair("asia")
    assert "eu1" in caught.value.hint


def test_passwords_show_nowhere_in_the_models(load_text: LoadText) -> None:
    inventory = load_text(GOOD)
    assert PASSWORD not in repr(inventory) + str(inventory) + inventory.model_dump_json()


def test_an_inventory_built_by_hand_keeps_the_rules_between_hosts_and_pairs(load_text: LoadText) -> None:
    good = load_text(GOOD)
    with pytest.raises(ValidationError, match="no host has that name"):
        Inventory(service=good.service, hosts=good.hosts[:1], pairs=good.pairs)


@dataclass(frozen=True)
class Broken:
    """A file with one mistake: what the sentence must hold, word for word, and the hint."""

    name: str
    text: str
    sentence: str
    hint: str


def host_line(name: str, line: str, sentence: str, hint: str) -> Broken:
    """An OSCam host with one more line."""
    text = changed(OSCAM_HOST, OSCAM_HOST + line + "\n")
    return Broken(name, text, f'host[2] "os-eu1": {sentence}', hint)


BROKEN = [
    Broken("no service", GOOD[GOOD.index("[[host]]") :], "[service] is missing", "rights_holder"),
    Broken("service is a list", GOOD.replace("[service]", "[[service]]"), "[service] is not a table", "[service]"),
    Broken(
        "no rights holder",
        changed('rights_holder = "Example Broadcasting Ltd."\n', ""),
        "service.rights_holder is missing",
        "who holds the rights",
    ),
    Broken(
        "blank rights holder",
        changed('"Example Broadcasting Ltd."', '"  "'),
        'service.rights_holder is "  "',
        "rights_holder =",
    ),
    Broken(
        "no abuse contact",
        changed('abuse_contact = "abuse@example.com"\n', ""),
        "service.abuse_contact is missing",
        "every mail",
    ),
    Broken(
        "two lines in one",
        changed('"Example Lines"', '"Example\\nLines"'),
        "service.name is a text of 13 characters",
        "name =",
    ),
    Broken(
        "no mail address",
        changed('"support@example.com"', '"support"'),
        'service.support_email is "support", but must be a mail address',
        "support_email = ",
    ),
    Broken(
        "no sender address",
        changed('"Example Lines <lines@example.com>"', '"Example Lines"'),
        'service.mail_from is "Example Lines", but must be a mail address',
        "<lines@example.com>",
    ),
    Broken(
        "no public address",
        changed("https://lines.example.com/", "lines.example.com"),
        'service.public_url is "lines.example.com"',
        "https://",
    ),
    Broken(
        "unknown table",
        GOOD.replace("[[pair]]", "[[pairs]]"),
        'unknown key "pairs"',
        'Did you mean "pair"? The keys here are service, host, pair.',
    ),
    Broken("no hosts", GOOD[: GOOD.index("[[host]]")] + PAIR, "[[host]] is missing", "under a line [[host]]"),
    Broken("no pairs", GOOD.replace(PAIR, ""), "[[pair]] is missing", "under a line [[pair]]"),
    Broken("one host table", GOOD.replace("[[pair]]", "[pair]"), "[[pair]] is not a list", "[[pair]]"),
    Broken("empty hosts", f"host = []\n{GOOD[: GOOD.index('[[host]]')]}{PAIR}", "[[host]] is missing", "[[host]]"),
    Broken(
        "unknown key",
        changed("accounts_file", "acounts_file", within=MULTICS_HOST),
        'host[1] "mc-eu1": unknown key "acounts_file"',
        'Did you mean "accounts_file"?',
    ),
    Broken(
        "missing key",
        changed("accounts_file", "acounts_file", within=MULTICS_HOST),
        'host[1] "mc-eu1": accounts_file is missing',
        'accounts_file = "/var/etc/accounts.cfg"',
    ),
    Broken(
        "unknown key inside",
        changed("user =", "login =", within=MULTICS_HOST),
        'host[1] "mc-eu1": unknown key "ssh.login"',
        "The keys here are address, port, user, key, known_hosts.",
    ),
    Broken(
        "missing key inside",
        changed("user =", "login =", within=MULTICS_HOST),
        'host[1] "mc-eu1": ssh.user is missing',
        "Add user =",
    ),
    Broken(
        "host without a name",
        changed('name = "mc-eu1"\n', "", within=MULTICS_HOST),
        "host[1]: name is missing",
        "Add name =",
    ),
    Broken(
        "name in capitals",
        changed('name = "os-eu1"', 'name = "OS-eu1"', within=OSCAM_HOST),
        'host[2] "OS-eu1": name is "OS-eu1", but must be a-z, 0-9 and hyphens',
        "name =",
    ),
    Broken(
        "name too long",
        changed('name = "eu1"', f'name = "{"e" * 33}"', within=PAIR),
        f'name is "{"e" * 33}", but must be',
        "name =",
    ),
    Broken(
        "unfit region",
        changed('region = "eu"', 'region = "-eu"', within=PAIR),
        'pair[1] "eu1": region is "-eu"',
        "region =",
    ),
    Broken(
        "unknown protocol",
        changed('"multics"', '"cccam"', within=MULTICS_HOST),
        'host[1] "mc-eu1": protocol is "cccam", but must be "multics" or "oscam"',
        "protocol =",
    ),
    Broken(
        "port as text",
        changed("port = 2222", 'port = "2222"'),
        'host[2] "os-eu1": ssh.port is "2222", but must be a whole number from 1 to 65535',
        "port = 22",
    ),
    Broken("port too big", changed("12000", "65536"), "public.port is 65536", "port ="),
    Broken("port zero", changed("12000", "0"), "public.port is 0", "port ="),
    Broken("port true", changed("12000", "true"), "public.port is true", "port ="),
    Broken(
        "address with a blank",
        changed("mc1.example.com", "mc1 example.com"),
        'ssh.address is "mc1 example.com", but must be a host name or IP address',
        "address =",
    ),
    Broken(
        "home folder",
        changed('"ssh/mc1"', '"~/.ssh/mc1"'),
        'ssh.key is "~/.ssh/mc1"',
        "key =",
    ),
    Broken("empty path", changed('"ssh/mc1"', '""'), 'ssh.key is ""', "key ="),
    Broken(
        "relative accounts file",
        changed("/var/etc/accounts.cfg", "etc/accounts.cfg"),
        'accounts_file is "etc/accounts.cfg", but must be the absolute path',
        "accounts_file =",
    ),
    Broken(
        "folder as accounts file",
        changed("/var/etc/accounts.cfg", "/var/etc/"),
        'accounts_file is "/var/etc/"',
        "accounts_file =",
    ),
    Broken(
        "relative state folder",
        changed("/var/lib/twinline/", "state"),
        'state_dir is "state"',
        "state_dir =",
    ),
    Broken(
        "mistyped zone",
        changed("Europe/Berlin", "Europe/Berlni"),
        'host[1] "mc-eu1": timezone is "Europe/Berlni"',
        'Did you mean "Europe/Berlin"?',
    ),
    Broken("folder of zones", changed("Europe/Berlin", "Europe"), 'timezone is "Europe"', "Europe/Berlin"),
    Broken("zone outside", changed("Europe/Berlin", "../passwd"), 'timezone is "../passwd"', "UTC"),
    Broken("zone as number", changed('"Europe/Berlin"', "1"), "timezone is 1", "timezone ="),
    Broken(
        "table as number",
        changed('{ address = "eu1.example.com", port = 12000 }', "12000"),
        "public is something else, but must be a table",
        "public = {address =",
    ),
    Broken(
        "status address without http",
        changed("http://127.0.0.1:5500/", "127.0.0.1:5500"),
        'status.url is "127.0.0.1:5500", but must be an http:// address as seen from the host itself',
        "http://127.0.0.1:8888",
    ),
    Broken(
        "status address with https",
        changed("http://127.0.0.1:5500/", "https://127.0.0.1:5500"),
        'status.url is "https://127.0.0.1:5500"',
        "http://",
    ),
    Broken(
        "status address with a bad port",
        changed("http://127.0.0.1:5500/", "http://127.0.0.1:99999"),
        'status.url is "http://127.0.0.1:99999"',
        "http://",
    ),
    Broken(
        "status address with a password",
        changed("http://127.0.0.1:5500/", f"http://admin:{PASSWORD}@127.0.0.1:5500"),
        "status.url is a text of",
        "http://",
    ),
    Broken(
        "status address with a query",
        changed("http://127.0.0.1:5500/", f"http://127.0.0.1:5500/?pw={PASSWORD}"),
        "status.url is a text of",
        "http://",
    ),
    Broken(
        "password as number",
        changed(f'"{PASSWORD}"', "5550123"),
        "status.password is not a text",
        "password =",
    ),
    Broken("empty password", changed(f'"{PASSWORD}"', '""'), "status.password is unfit", "password ="),
    Broken(
        "password in a list",
        changed(f'"{PASSWORD}"', f'["{PASSWORD}"]'),
        "status.password is not a text",
        "password =",
    ),
    Broken(
        "mistyped password key",
        changed("password =", "pasword ="),
        'unknown key "status.pasword"',
        'Did you mean "password"?',
    ),
    Broken(
        "password instead of the status table",
        re.sub(r"(?m)^status = .*$", f'status = "{PASSWORD}"', GOOD, count=1),
        "status is something else",
        "status = {url =",
    ),
    Broken(
        "private key instead of its path",
        changed('"ssh/mc1"', f'"""-----BEGIN\n{PASSWORD}"""'),
        "ssh.key is a text of",
        "key =",
    ),
    host_line("width not a power", "record_width = 768", "record_width is 768, but must be a power of two", "512"),
    host_line("width too small for oscam", "record_width = 256", "record_width is 256", "512"),
    host_line("width too big", "record_width = 8192", "record_width is 8192", "512"),
    host_line("width as text", 'record_width = "512"', 'record_width is "512"', "record_width = 512"),
    Broken(
        "width too small for multics",
        changed(MULTICS_HOST, MULTICS_HOST + "record_width = 64\n"),
        'host[1] "mc-eu1": record_width is 64',
        "record_width =",
    ),
    host_line("server id of oscam", "server_id = 1", "server_id has no meaning", "Remove server_id."),
    Broken(
        "server id zero",
        changed(MULTICS_HOST, MULTICS_HOST + "server_id = 0\n"),
        'host[1] "mc-eu1": server_id is 0',
        "server_id = 1",
    ),
    Broken("no groups", changed("groups = [1, 64]\n", ""), "groups is missing", "Add groups = [1]"),
    Broken("empty groups", changed("[1, 64]", "[]"), "groups is missing", "Add groups = [1]"),
    Broken("group too big", changed("[1, 64]", "[1, 65]"), "groups holds 65, but must be", "groups = [1]"),
    Broken("group as text", changed("[1, 64]", '"1"'), "groups is not a list", "groups = [1]"),
    Broken(
        "groups of multics",
        changed(MULTICS_HOST, MULTICS_HOST + "groups = [1]\n"),
        'host[1] "mc-eu1": groups has no meaning',
        "Remove groups.",
    ),
    Broken(
        "reload of multics",
        changed(MULTICS_HOST, MULTICS_HOST + 'reload = { method = "webif" }\n'),
        'host[1] "mc-eu1": reload has no meaning',
        "whenever the file is written",
    ),
    host_line(
        "unknown method",
        'reload = { method = "hup" }',
        'reload.method is "hup", but must be "webif", "sighup" or "command"',
        "method =",
    ),
    host_line("no command", 'reload = { method = "command" }', "reload.argv is missing", "argv = ["),
    host_line(
        "command as text",
        f'reload = {{ method = "command", argv = "reload {PASSWORD}" }}',
        "reload.argv is not a list",
        "argv = [",
    ),
    host_line(
        "command of a number",
        'reload = { method = "command", argv = ["reload", 5] }',
        "reload.argv holds 5",
        "argv = [",
    ),
    host_line(
        "command beside the web interface",
        'reload = { argv = ["reload"] }',
        "reload.argv stands beside",
        'method = "command"',
    ),
    host_line("no pid file", 'reload = { method = "sighup" }', "reload.pid_file is missing", "-B"),
    host_line(
        "pid file beside a command",
        'reload = { method = "command", argv = ["r"], pid_file = "/run/oscam.pid" }',
        "reload.pid_file stands beside",
        "Remove pid_file",
    ),
    host_line("quiet below zero", "quiet_seconds = -1.0", "quiet_seconds is -1.0", "quiet_seconds ="),
    host_line("quiet for ever", "quiet_seconds = inf", "quiet_seconds is Infinity", "quiet_seconds ="),
    host_line("quiet true", "quiet_seconds = true", "quiet_seconds is true", "quiet_seconds ="),
    Broken(
        "same host name",
        changed('name = "os-eu1"', 'name = "mc-eu1"', within=OSCAM_HOST),
        'host[2] "mc-eu1": name is "mc-eu1", as is another\'s before it',
        "a name of its own",
    ),
    Broken("same pair name", GOOD + PAIR, 'pair[2] "eu1": name is "eu1", as is', "a name of its own"),
    Broken(
        "host in two pairs",
        GOOD + PAIR.replace('"eu1"', '"eu2"'),
        'pair[2] "eu2": multics is "mc-eu1", which belongs to pair[1] "eu1" already',
        "one pair only",
    ),
    Broken(
        "unknown host",
        changed('"os-eu1"', '"os-eu9"', within=PAIR),
        'pair[1] "eu1": oscam is "os-eu9", but no host has that name',
        'Did you mean "os-eu1"?',
    ),
    Broken(
        "two hosts of one protocol",
        changed('multics = "mc-eu1"', 'multics = "os-eu1"', within=PAIR),
        'pair[1] "eu1": multics is "os-eu1", but that host\'s protocol is "oscam"',
        'protocol = "multics"',
    ),
    Broken(
        "same accounts file",
        GOOD + MULTICS_HOST.replace("-eu1", "-eu2").replace("/etc/acc", "/etc//acc").replace("/lib", "/lib2"),
        'host[3] "mc-eu2": accounts_file is "/var/etc//accounts.cfg", and host[1] "mc-eu1" uses it',
        "of its own",
    ),
    Broken(
        "same state folder",
        GOOD + MULTICS_HOST.replace("-eu1", "-eu2").replace("/etc/acc", "/etc2/acc").replace("mc1.e", "MC1.e"),
        'host[3] "mc-eu2": state_dir is "/var/lib/twinline/", and host[1] "mc-eu1" uses it',
        "of its own",
    ),
    Broken("no capacity", GOOD + "capacity = 0\n", 'pair[1] "eu1": capacity is 0', "capacity = 5000"),
    Broken("capacity as text", GOOD + 'capacity = "9"\n', 'capacity is "9"', "capacity = 5000"),
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_mistake_is_told_by_its_key_its_value_and_what_to_do(broken: Broken, load_text: LoadText) -> None:
    with pytest.raises(Misconfigured) as caught:
        load_text(broken.text)
    shown = f"{caught.value.message}. {caught.value.hint}"
    (told,) = [line for line in shown.splitlines() if broken.sentence in line]
    assert broken.hint in told or broken.hint in caught.value.hint
    assert PASSWORD not in shown
    assert "5550123" not in shown
    assert caught.value.category is Category.USAGE


@pytest.mark.parametrize(
    "argv",
    [
        '["oscam"]',
        '["oscam", "-d", "4096"]',
        '["/usr/local/bin/oscam", "-b"]',
        '["sudo", "oscam", "-d", "4096"]',
        '["sh", "-c", "oscam -d 4096"]',
        '["sh", "-c", "exec \'/usr/bin/oscam\' -d 4096"]',
    ],
)
def test_a_command_that_starts_a_second_oscam_is_refused(argv: str, load_text: LoadText) -> None:
    text = changed(OSCAM_HOST, f'{OSCAM_HOST}reload = {{ method = "command", argv = {argv} }}\n')
    with pytest.raises(Misconfigured, match=r"reload\.argv runs oscam itself.* second daemon") as caught:
        load_text(text)
    assert 'method = "webif"' in caught.value.hint


@pytest.mark.parametrize(
    "argv",
    [
        '["systemctl", "reload", "oscam"]',
        '["pkill", "-HUP", "oscam"]',
        '["docker", "exec", "oscam", "reload"]',
        '["/opt/oscam/reload", "-q"]',
    ],
)
def test_a_command_that_only_mentions_oscam_passes(argv: str, load_text: LoadText) -> None:
    text = changed(OSCAM_HOST, f'{OSCAM_HOST}reload = {{ method = "command", argv = {argv} }}\n')
    reload = load_text(text).host("os-eu1").reload
    assert reload is not None
    assert reload.method == "command"


def test_all_mistakes_come_at_once_and_the_first_has_the_hint(load_text: LoadText) -> None:
    text = (
        GOOD.replace("port = 2222", "port = 0")
        .replace("Europe/Berlin", "Nowhere")
        .replace('oscam = "os-eu1"', 'oscam = "os-eu9"')
        .replace('abuse_contact = "abuse@example.com"\n', "")
    )
    with pytest.raises(Misconfigured) as caught:
        load_text(text)
    first, *others = caught.value.message.splitlines()
    assert "service.abuse_contact is missing" in first
    assert "abuse_contact =" in caught.value.hint
    assert [
        any(words in line for line in others) for words in ("timezone is", "ssh.port is 0", "no host has that name")
    ] == [True, True, True]
    assert len(others) == 3


def test_a_host_with_mistakes_is_no_unknown_host_to_its_pair(load_text: LoadText) -> None:
    with pytest.raises(Misconfigured) as caught:
        load_text(changed("port = 2222", "port = 0"))
    assert len(caught.value.message.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f'[service]\nname = "x"\npassword = {PASSWORD}\n', "line 3"),
        (f'[service]\nname = "{PASSWORD}', "end of document"),
        (f"[service]\nname = 1\nname = '{PASSWORD}'\n", "line 3"),
    ],
)
def test_broken_toml_is_told_by_its_place_and_never_quoted(text: str, place: str, load_text: LoadText) -> None:
    with pytest.raises(Misconfigured, match=f"not valid TOML at {place}") as caught:
        load_text(text)
    assert PASSWORD not in caught.value.message + caught.value.hint


def test_a_file_that_is_not_there_or_not_readable_is_told_by_its_path(tmp_path: Path) -> None:
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'name = "\xe9"')
    for path, words in (
        (tmp_path / "none.toml", "does not exist"),
        (tmp_path, "cannot be read"),
        (latin, "not UTF-8 at byte 8"),
    ):
        with pytest.raises(Misconfigured, match=words) as caught:
            load_inventory(path)
        assert str(path) in caught.value.message
        assert caught.value.hint


# Every value of the good file, each exactly once, so that any of them can be exchanged.
VALUES = [match.span(1) for match in re.finditer(r"(?m)(?<== )(\"[^\"\n]*\"|\d+|\[[^\]\n]*\])", GOOD)]
ANY_VALUE = st.one_of(
    st.integers().map(str),
    st.booleans().map(lambda value: str(value).lower()),
    st.floats().map(lambda value: str(value).replace("e+", "e")),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters='"\\')).map('"{}"'.format),
    st.sampled_from(["[]", "{}", "[[1]]", "{ a = 1 }", "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z"]),
)


@settings(max_examples=60)
@given(data=st.data())
def test_whatever_stands_in_a_value_the_answer_is_an_inventory_or_a_sentence(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    start, end = data.draw(st.sampled_from(VALUES))
    value = data.draw(ANY_VALUE.filter(lambda value: PASSWORD not in value))
    text = GOOD[:start] + value + GOOD[end:]
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text)
    try:
        assert len(load_inventory(path).hosts) == 2
    except Misconfigured as error:
        assert error.hint
        assert PASSWORD not in error.message + error.hint
