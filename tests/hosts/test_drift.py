"""Where ledger, file and daemon differ is found and named, for both daemons."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.hosts.files import END, PASSWORD, carried_out, half, plan_for
from tests.hosts.judge import KINDS, Kind
from tests.hosts.lab import FOREIGN, Lab
from twinline.hosts import drift, looking
from twinline.hosts.daemon import CANARY
from twinline.hosts.drift import Drift, Expected
from twinline.hosts.drift import Kind as Difference
from twinline.hosts.factory import daemon_for, helper_for
from twinline.hosts.looking import Access, Loaded, Look
from twinline.hosts.ports import Half, Wanted

ANNA, BERT, CARL = half("anna22"), half("bert33"), half("carl44")
EVERYBODY = (ANNA, BERT, CARL)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)


def file_of(kind: Kind, *halves: Half) -> bytes:
    """A file with two accounts of others and these lines of ours."""
    data = FOREIGN[kind.protocol] + b"\n"
    return carried_out(data, plan_for(kind.daemon, data, halves))


def compared(
    kind: Kind,
    data: bytes,
    *halves: Half,
    behind: tuple[Half, ...] = (),
    listed: Mapping[str, Access] | None = None,
    loaded: Mapping[str, Loaded] | None = None,
) -> Drift:
    """What is found when the ledger wants these halves."""
    expected = [Expected(each, behind=False) for each in halves] + [Expected(each, behind=True) for each in behind]
    return drift.compare(kind.daemon, expected, Look(data, listed, loaded or {}))


def named(found: Drift) -> dict[str, list[Difference]]:
    """What is wrong with whom."""
    return {line.username: list(line.kinds) for line in found.lines}


def as_loaded(kind: Kind, line: Half) -> Loaded:
    """A line as the daemon shows it when all is well."""
    assert line.ends_at is not None
    return Loaded(line.mark, kind.daemon.shown_end(line.ends_at), None if kind.protocol == "multics" else True)


def all_listed(*names: str, **others: Access) -> dict[str, Access]:
    """The daemon's listing when it serves these names."""
    return {**dict.fromkeys(("oldtom", "oldeve", *names), Access.OPEN), **others}


@every_kind
class TestPure:
    """Files and listings that a test makes up."""

    def test_what_ledger_file_and_daemon_agree_about_is_no_drift(self, kind: Kind) -> None:
        blocked, gone = half("dora55", 2, wanted=Wanted.BLOCKED), half("emil66", 3, wanted=Wanted.ABSENT, ends_at=None)
        listed = all_listed("anna22", "bert33", **({"dora55": Access.OFF} if kind.protocol == "oscam" else {}))
        data = file_of(kind, ANNA, BERT, half("dora55"))
        data = carried_out(data, plan_for(kind.daemon, data, [blocked]))
        loaded = {"anna22": as_loaded(kind, ANNA)}
        found = compared(kind, data, ANNA, BERT, blocked, gone, behind=(CARL,), listed=listed, loaded=loaded)
        assert found == Drift(lines=(), behind=("carl44",), served=2, others=2, daemon_told=True)

    def test_a_line_that_is_missing_or_switched_off_is_written_again(self, kind: Kind) -> None:
        data = file_of(kind, ANNA, BERT)
        data = carried_out(data, plan_for(kind.daemon, data, [replace(BERT, wanted=Wanted.BLOCKED)]))
        found = compared(kind, data, *EVERYBODY)
        assert named(found) == {"bert33": [Difference.OFF], "carl44": [Difference.MISSING]}
        assert found.to_restore(together=False) == ("bert33", "carl44")
        assert [line.file.state for line in found.lines] == ["off", "absent"]
        assert not any(line.loses_access for line in found.lines)

    def test_password_end_and_mark_are_compared_and_no_password_is_told(self, kind: Kind) -> None:
        held = (
            half("anna22", password="otherpass123"),
            half("bert33", 7, ends_at=END + timedelta(days=30)),
            replace(CARL, mark="1-ffffffff"),
        )
        found = compared(kind, file_of(kind, *held), *EVERYBODY)
        assert named(found) == {
            "anna22": [Difference.PASSWORD, Difference.MARK],
            "bert33": [Difference.END, Difference.MARK],
            "carl44": [Difference.MARK],
        }
        anna, bert, _ = found.lines
        assert anna.file.another_password
        assert (bert.file.revision, bert.file.end) == (7, kind.daemon.file_end(END + timedelta(days=30)))
        assert bert.ledger is not None
        assert (bert.ledger.revision, bert.ledger.end) == (1, kind.daemon.file_end(END))
        assert "otherpass123" not in found.model_dump_json()
        assert PASSWORD not in found.model_dump_json()
        assert len(found.to_restore(together=True)) == 3

    def test_a_record_that_is_live_though_it_must_not_work_is_taken_away(self, kind: Kind) -> None:
        wanted = [replace(ANNA, wanted=Wanted.BLOCKED), replace(BERT, wanted=Wanted.ABSENT, ends_at=None), CARL]
        found = compared(kind, file_of(kind, *EVERYBODY), *wanted)
        assert named(found) == {"anna22": [Difference.LIVE], "bert33": [Difference.LIVE]}
        assert [line.loses_access for line in found.lines] == [True, True]
        assert found.to_restore(together=True) == ("anna22", "bert33")

    def test_a_record_out_of_its_place_is_brought_back(self, kind: Kind) -> None:
        found = compared(kind, b"# one more line\n" + file_of(kind, *EVERYBODY), *EVERYBODY)
        assert set(map(tuple, named(found).values())) == {(Difference.MOVED,)}
        assert found.to_restore(together=False) == ("anna22", "bert33", "carl44")
        assert found.to_restore(together=True) == ("anna22",)

    def test_a_foreign_record_of_that_name_is_left_to_a_person(self, kind: Kind) -> None:
        tom = half("oldtom")
        found = compared(kind, file_of(kind, ANNA), ANNA, tom, replace(half("oldeve"), wanted=Wanted.ABSENT))
        assert named(found) == {"oldtom": [Difference.TAKEN]}
        assert found.lines[0].file.state == "foreign"
        assert found.to_restore(together=False) == ()

    def test_a_record_that_the_ledger_does_not_know_is_only_reported(self, kind: Kind) -> None:
        found = compared(kind, file_of(kind, *EVERYBODY), ANNA, BERT, listed=all_listed("anna22", "bert33", "carl44"))
        assert named(found) == {"carl44": [Difference.UNKNOWN]}
        (line,) = found.lines
        assert (line.line_id, line.ledger, line.file.state, line.file.revision) == (None, None, "served", 1)
        assert line.daemon is not None
        assert line.daemon.state == "served"
        assert found.to_restore(together=False) == ()

    def test_the_record_of_a_proof_of_the_reload_is_no_drift(self, kind: Kind) -> None:
        found = compared(kind, file_of(kind, ANNA, half(CANARY)), ANNA, listed=all_listed("anna22", CANARY))
        assert found.lines == ()

    def test_what_is_behind_is_no_drift_whatever_stands_in_the_file(self, kind: Kind) -> None:
        changed = half("bert33", 2, password="otherpass123")
        found = compared(kind, file_of(kind, ANNA, BERT), ANNA, behind=(changed, CARL))
        assert (found.lines, found.behind) == ((), ("bert33", "carl44"))

    def test_what_the_daemon_holds_is_compared_where_the_file_is_right(self, kind: Kind) -> None:
        names = ("anna22", "bert33", "carl44", "dora55")
        lines = [half(name) for name in names]
        shut, gone = replace(half("emil66"), wanted=Wanted.BLOCKED), half("fred77")
        loaded = {
            "anna22": replace(as_loaded(kind, lines[0]), mark="9-00000000"),
            "bert33": replace(as_loaded(kind, lines[1]), end="2001-01-01 00"),
            "carl44": as_loaded(kind, lines[2]),
            "dora55": replace(as_loaded(kind, lines[3]), our_password=False),
        }
        listed = all_listed(*names, "emil66", gone=Access.OPEN)
        found = compared(kind, file_of(kind, *lines, gone), *lines, gone, shut, listed=listed, loaded=loaded)
        assert named(found) == {
            "anna22": [Difference.LOADED_OTHERWISE],
            "bert33": [Difference.LOADED_OTHERWISE],
            "dora55": [Difference.LOADED_OTHERWISE],
            "fred77": [Difference.NOT_LOADED],
            "emil66": [Difference.STILL_LOADED],
        }
        sides = {line.username: line.daemon for line in found.lines}
        anna, dora, fred = sides["anna22"], sides["dora55"], sides["fred77"]
        assert anna is not None
        assert (anna.state, anna.revision) == ("served", 9)
        assert dora is not None
        assert dora.another_password
        assert fred is not None
        assert fred.state == "absent"
        assert [line.username for line in found.lines if line.loses_access] == ["emil66"]
        assert found.to_restore(together=False) == ("emil66", "anna22", "bert33", "dora55", "fred77")


@every_kind
@pytest.mark.parametrize(
    ("access", "difference", "repaired"),
    [(Access.SHUT, Difference.SHUT, False), (Access.OFF, Difference.LOADED_OTHERWISE, True)],
)
def test_an_account_on_which_nobody_may_log_in_is_loaded_again_unless_that_was_set_in_the_daemons_pages(
    kind: Kind, access: Access, difference: Difference, *, repaired: bool
) -> None:
    found = compared(kind, file_of(kind, ANNA), ANNA, listed=all_listed(anna22=access))
    (line,) = found.lines
    assert (line.kinds, line.repaired) == ((difference,), repaired)
    assert line.daemon is not None
    assert line.daemon.state == "off"


@pytest.mark.parametrize("state", range(16))
def test_what_multics_says_of_an_account_is_understood(state: int) -> None:
    listing = KINDS[0].daemon.listing()
    assert bool(re.fullmatch(listing.off, str(state))) is bool(state & 14)
    assert bool(re.fullmatch(listing.shut, str(state))) is bool(state & 2)


def test_a_record_with_another_option_is_altered() -> None:
    kind = KINDS[0]
    data = file_of(kind, ANNA)
    spoilt = data.replace(b" 0 { enddate", b" 1 { enddate")
    assert spoilt != data
    (line,) = compared(kind, spoilt, ANNA).lines
    assert set(line.kinds) <= {Difference.ALTERED, Difference.MOVED}
    assert line.repaired


def test_every_kind_of_drift_is_explained() -> None:
    assert set(drift.MEANINGS) == set(Difference)
    assert all(meaning.sentence and meaning.hint for meaning in drift.MEANINGS.values())


async def test_a_real_daemon_is_seen_as_it_is(lab: Lab) -> None:
    wanted = [lab.ledger.want(name, PASSWORD) for name in ("anna22", "bert33", "carl44")]
    for each in wanted:
        await lab.bring(each)
    await lab.bring(lab.ledger.change("bert33", wanted=Wanted.BLOCKED))
    await lab.bring(lab.ledger.change("carl44", wanted=Wanted.ABSENT))
    expected = [Expected(each, behind=False) for each in lab.ledger.wanted.values()]
    helper = await helper_for(lab.host)
    daemon = daemon_for(lab.host)
    before = lab.accounts.read_bytes(), lab.accounts.stat()
    look = await looking.look(helper, daemon, [wanted[0], half("nobody99")])
    assert look.listed is not None
    assert {name for name, served in look.listed.items() if served is Access.OPEN} == {"oldtom", "oldeve", "anna22"}
    assert look.loaded["anna22"] == as_loaded(Kind(lab.host.protocol, daemon, KINDS[0].see), wanted[0])
    assert (look.loaded["nobody99"].mark, look.loaded["nobody99"].end) == (None, None)
    assert drift.compare(daemon, expected, look).lines == ()
    assert (lab.accounts.read_bytes(), lab.accounts.stat()) == before
    await helper.close()
