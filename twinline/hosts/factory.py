"""From a host of the inventory to what the engine needs: its daemon, its SSH access, its helper."""

from functools import partial

from twinline.hosts import multics_records, oscam_records
from twinline.hosts.daemon import Daemon, Trigger
from twinline.hosts.multics import MultiCS
from twinline.hosts.oscam import OSCam
from twinline.hosts.ports import HostLedger
from twinline.hosts.records import Doubt
from twinline.hosts.ssh import Helper, HelperSetup, SshAccess, start_helper
from twinline.hosts.writer import HostWriter
from twinline.inventory import Host, Reload
from twinline.messages import Protocol

OSCAM_REINIT = "/userconfig.html?action=reinit"
"""Reads oscam.user again in a thread of its own, whatever `reload_useraccounts` says (daemons.md, *Reload*)."""

OSCAM_DEADLINE = 3.0


def daemon_for(host: Host) -> Daemon:
    """The daemon of a host, configured as the inventory says."""
    if host.protocol == "multics":
        deadline = max(1.5, host.quiet_seconds)
        return MultiCS(width=host.record_width, zone=host.timezone, server_id=host.server_id, deadline=deadline)
    reload = _trigger(host.reload or Reload())
    return OSCam(
        width=host.record_width, zone=host.timezone, groups=host.groups, reload=reload, deadline=OSCAM_DEADLINE
    )


def doubts_about(protocol: Protocol, data: bytes) -> tuple[Doubt, ...]:
    """What a daemon of this kind takes otherwise than it looks, in an accounts file."""
    rules = {"multics": multics_records.doubts_about, "oscam": oscam_records.doubts_about}
    return rules[protocol](data)


def _trigger(reload: Reload) -> Trigger:
    match reload.method:
        case "webif":
            return Trigger("get", path=OSCAM_REINIT)
        case "sighup":
            return Trigger("signal", pid_file=reload.pid_file or "")
        case "command":
            return Trigger("argv", argv=reload.argv)


def allowance_of(host: Host) -> tuple[str, ...]:
    """What a key for this host has to be allowed: the words behind the hash in `forced.forced_command`."""
    reload = host.reload or Reload()
    match reload.method:
        case "webif":
            words: tuple[str, ...] = ()
        case "sighup":
            words = ("sighup", reload.pid_file or "")
        case "command":
            words = ("command", *reload.argv)
    return (host.accounts_file, host.state_dir, host.status.url, *words)


def access_for(host: Host) -> SshAccess:
    """Where and as whom to connect to a host."""
    ssh = host.ssh
    return SshAccess(ssh.address, ssh.port, ssh.user, ssh.key, ssh.known_hosts)


def setup_for(host: Host) -> HelperSetup:
    """What the helper on a host has to know."""
    daemon = daemon_for(host)
    return HelperSetup(
        accounts_file=host.accounts_file,
        state_dir=host.state_dir,
        status_url=host.status.url,
        status_auth=daemon.status_auth,
        status_user=host.status.user,
        status_password=host.status.password.get_secret_value(),
        close_triggers=daemon.close_triggers,
        quiet_seconds=host.quiet_seconds,
        record_width=host.record_width,
    )


async def helper_for(host: Host) -> Helper:
    """Connect to a host and start the helper there; raises the HostError that keeps us from it."""
    return await start_helper(access_for(host), setup_for(host))


def writer_for(host: Host, ledger: HostLedger) -> HostWriter:
    """The writer of one host; one per host and process."""
    return HostWriter(host.name, daemon=daemon_for(host), ledger=ledger, start_helper=partial(helper_for, host))
