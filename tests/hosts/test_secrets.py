"""Nothing that the engine passes around spells a password when it is shown in a log or a traceback."""

from collections.abc import Iterator

import pytest

from tests.hosts.files import PASSWORD, half, image_of, plan_for
from tests.hosts.helper_process import setup_for
from tests.hosts.judge import KINDS, Kind
from twinline.hosts.errors import HostError, trouble
from twinline.hosts.ports import Batch, Token


def shown(kind: Kind) -> Iterator[object]:
    """Everything of the engine that holds a password, or was made from one."""
    wanted, changed = half("alder22"), half("alder22", 2, password="another23")
    yield wanted
    yield Batch(Token(1, 1), (wanted,))
    yield kind.daemon.checks(wanted)
    yield kind.daemon.kick(wanted)
    steps = kind.daemon.steps(kind.daemon.free_slot(), wanted)
    yield steps
    slot = steps[-1].image
    yield kind.daemon.steps(slot, changed)
    yield kind.daemon.survey(slot)
    yield image_of(kind.daemon, slot)
    yield plan_for(kind.daemon, slot, [changed])
    yield kind.daemon


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
def test_no_part_of_the_engine_shows_a_password(kind: Kind) -> None:
    for each in shown(kind):
        assert PASSWORD not in repr(each)
        assert "another23" not in repr(each)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
@pytest.mark.parametrize("bad", ["two words", "a#b", "p" * 30])
def test_a_value_that_cannot_be_written_is_not_spelled_in_the_refusal(kind: Kind, bad: str) -> None:
    with pytest.raises(ValueError, match="can't be written safely") as refused:
        kind.daemon.steps(kind.daemon.free_slot(), half("alder22", password=bad))
    assert bad not in str(refused.value)


def test_the_status_password_is_not_shown(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp()
    assert "statuspass" not in repr(setup_for(folder, folder, KINDS[0]))


def test_every_trouble_of_the_helper_becomes_an_error_that_says_what_to_do() -> None:
    codes = [
        *("missing", "denied", "read_only", "no_space", "unsafe_file", "io_error", "state_denied", "lock_held"),
        *("fenced", "status_unreachable", "status_refused", "reload_failed", "bad_request", "never heard of"),
    ]
    errors = [trouble(code, "1/7" if code == "fenced" else "detail") for code in codes]
    assert all(isinstance(error, HostError) and error.hint and str(error) for error in errors)
    assert {error.code for error in errors} == {
        *("FileTrouble", "LockHeld", "Fenced", "StatusTrouble", "ReloadFailed", "HelperFailed"),
    }
