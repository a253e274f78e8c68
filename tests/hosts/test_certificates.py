"""Host certificates: known_hosts names an authority instead of every host's key, and is as strict about it."""

import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from tests.hosts.helper_process import setup_for
from tests.hosts.judge import KINDS
from tests.support.sshd import Sshd, run_sshd
from twinline.hosts.errors import HostKeyMismatch
from twinline.hosts.ssh import HelperSetup, SshAccess, start_helper

HERE = "127.0.0.1"


def ssh_keygen(*words: object) -> None:
    subprocess.run(["ssh-keygen", "-q", *map(str, words)], check=True, capture_output=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two certificate authorities, of which known_hosts will name one."""
    folder = tmp_path_factory.mktemp("authorities")
    for name in ("ours", "other"):
        ssh_keygen("-t", "ed25519", "-N", "", "-C", name, "-f", folder / name)
    return {name: folder / name for name in ("ours", "other")}


def certifying(authority: Path, principal: str, validity: str) -> Callable[[Path], Path]:
    def certify(host_key: Path) -> Path:
        public = host_key.with_suffix(".pub")
        ssh_keygen("-s", authority, "-h", "-I", "host", "-n", principal, "-V", validity, public)
        return host_key.with_name(f"{host_key.name}-cert.pub")

    return certify


@pytest_asyncio.fixture(scope="module")
async def certified(authorities: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sshd]:
    certify = certifying(authorities["ours"], HERE, "-1h:+1h")
    async with run_sshd(tmp_path_factory.mktemp("sshd"), certify=certify) as server:
        yield server


@pytest.fixture
def setup(tmp_path: Path) -> HelperSetup:
    (tmp_path / "accounts").write_bytes(b"# empty\n")
    return setup_for(tmp_path / "accounts", tmp_path / "state", KINDS[0])


def access(server: Sshd, folder: Path, *lines: str) -> SshAccess:
    known_hosts = folder / "known_hosts"
    known_hosts.write_text("\n".join(lines) + "\n")
    return SshAccess(HERE, server.port, server.user, server.key, known_hosts)


def authority_line(server: Sshd, authority: Path, marker: str = "@cert-authority") -> str:
    return f"{marker} [{HERE}]:{server.port} {authority.with_suffix('.pub').read_text().strip()}"


async def test_a_host_with_a_certificate_of_our_authority_is_let_in_without_its_own_key(
    certified: Sshd, authorities: dict[str, Path], setup: HelperSetup, tmp_path: Path
) -> None:
    helper = await start_helper(access(certified, tmp_path, authority_line(certified, authorities["ours"])), setup)
    assert helper.hello["version"] == 1
    await helper.close()


async def test_the_certificate_of_another_authority_is_refused(
    certified: Sshd, authorities: dict[str, Path], setup: HelperSetup, tmp_path: Path
) -> None:
    with pytest.raises(HostKeyMismatch):
        await start_helper(access(certified, tmp_path, authority_line(certified, authorities["other"])), setup)


async def test_an_authority_counts_only_for_the_hosts_it_is_named_for(
    certified: Sshd, authorities: dict[str, Path], setup: HelperSetup, tmp_path: Path
) -> None:
    line = authority_line(certified, authorities["ours"]).replace(HERE, "10.0.0.1")
    with pytest.raises(HostKeyMismatch):
        await start_helper(access(certified, tmp_path, line), setup)


@pytest.mark.parametrize("what", ["the authority", "the host's key"])
async def test_what_was_revoked_is_refused_whatever_else_is_trusted(
    certified: Sshd, authorities: dict[str, Path], setup: HelperSetup, tmp_path: Path, what: str
) -> None:
    key = authorities["ours"] if what == "the authority" else certified.known_hosts.with_name("host")
    lines = (authority_line(certified, authorities["ours"]), authority_line(certified, key, "@revoked"))
    with pytest.raises(HostKeyMismatch):
        await start_helper(access(certified, tmp_path, *lines), setup)


@pytest.mark.parametrize(
    ("principal", "validity"),
    [("mc-eu2.example.net", "-1h:+1h"), (HERE, "-2h:-1h"), (HERE, "+1h:+2h")],
    ids=["another host's", "expired", "not yet valid"],
)
async def test_a_certificate_that_is_not_for_this_host_and_time_is_refused(
    authorities: dict[str, Path], setup: HelperSetup, tmp_path: Path, principal: str, validity: str
) -> None:
    certify = certifying(authorities["ours"], principal, validity)
    async with run_sshd(tmp_path / "sshd", certify=certify) as server:
        lines = access(server, tmp_path, authority_line(server, authorities["ours"]))
        with pytest.raises(HostKeyMismatch):
            await start_helper(lines, setup)
        # The same host is known by its own key.
        helper = await start_helper(replace(lines, known_hosts=server.known_hosts), setup)
        await helper.close()
