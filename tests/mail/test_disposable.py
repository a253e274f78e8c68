"""The list of throw-away domains: an operator's file, which may be replaced at any moment."""

from pathlib import Path

import pytest

from twinline.errors import Misconfigured
from twinline.mail import DisposableDomains


def test_a_domain_counts_with_all_below_it_and_with_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "domains"
    path.write_text("# a list\n\nMailinator.example  # with a comment\nbücher.example\n")
    domains = DisposableDomains(path)
    for domain in ("mailinator.example", "eu.mailinator.example", "xn--bcher-kva.example"):
        assert domains.lists(domain)
    for domain in ("example", "notmailinator.example", "mailinator.example.com", ""):
        assert not domains.lists(domain)
    assert not DisposableDomains().lists("mailinator.example")


def test_a_list_that_was_replaced_counts_at_once_and_a_broken_one_never(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, fresh = tmp_path / "domains", tmp_path / "fresh"
    path.write_text("old.example\n")
    domains = DisposableDomains(path)
    fresh.write_text("new.example\n")
    fresh.replace(path)
    assert (domains.lists("old.example"), domains.lists("new.example")) == (False, True)
    for break_it in (lambda: path.write_bytes(b"\xff\n"), lambda: path.write_text(".\n"), path.unlink):
        break_it()
        caplog.clear()
        assert domains.lists("new.example")
        assert "the list of before counts" in caplog.text


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"a..example\n"])
def test_a_list_that_can_not_be_read_stops_the_start(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "domains"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Misconfigured, match="TWINLINE_DISPOSABLE_DOMAINS"):
        DisposableDomains(path)
