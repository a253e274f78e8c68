"""The units of systemd in deploy/ start what a wheel brings, and give it the time that it needs to end."""

import configparser
import subprocess
import sysconfig
from pathlib import Path

import pytest

from starter.api.serving import SECONDS_TO_END
from tests.support.wheels import build_wheel, install_alone
from worker import GRACEFUL

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy").glob("*.service"))
INSTALLED = "/opt/twinline/"


def service(path: Path) -> configparser.SectionProxy:
    """The part of a unit that says what is started, and how."""
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # pyright: ignore[reportAttributeAccessIssue] - as configparser's own documentation has it
    parser.read_string(path.read_text())
    return parser["Service"]


def test_there_is_a_unit_for_each_command_that_stays_up() -> None:
    assert [path.name for path in UNITS] == ["twinline-web.service", "twinline-worker.service"]
    readme = (ROOT / "README.md").read_text()
    for path in UNITS:
        assert f"deploy/{path.name}" in readme


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_lets_its_process_end_and_starts_it_again(path: Path) -> None:
    unit = service(path)
    assert int(unit["TimeoutStopSec"]) > max(GRACEFUL.total_seconds(), SECONDS_TO_END)
    assert unit["Restart"] == "always"
    # Only what is written for it may be used: we send no word to systemd.
    assert unit["Type"] == "exec"
    assert "WatchdogSec" not in unit
    assert unit["User"] == "twinline"
    assert unit["EnvironmentFile"] == "/etc/twinline/environment"


def test_what_the_units_start_is_in_the_wheel(tmp_path: Path) -> None:
    site = install_alone(build_wheel(tmp_path), tmp_path / "twinline")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for path in UNITS:
        program, *words = service(path)["ExecStart"].split()
        assert program.startswith(INSTALLED)
        started = subprocess.run(
            [tmp_path / "twinline" / program.removeprefix(INSTALLED), *words],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        # It starts, and misses nothing but its settings.
        assert started.returncode == 2, started.stderr
        assert "TWINLINE_INVENTORY is not set" in started.stderr
