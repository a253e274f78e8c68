"""The key ring: what it seals, what it refuses to open, and which files it refuses to read."""

import base64
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinline.errors import Misconfigured
from twinline.keys import PAYLOADS, KeyRing, KeyRingError, key_of

OLD, NEW, STABLE = (bytes([number]) * 32 for number in (1, 2, 3))
BEFORE = KeyRing(primary="k1", keys={"k1": OLD}, stable=STABLE)
ROTATED = KeyRing(primary="k2", keys={"k1": OLD, "k2": NEW}, stable=STABLE)
SECRET = b"correct horse battery staple"


def text_of(key: bytes) -> str:
    return base64.b64encode(key).decode()


def written(path: Path, content: str, mode: int = 0o600) -> Path:
    path.write_text(content)
    path.chmod(mode)
    return path


@given(plain=st.binary(), aad=st.binary(), purpose=st.text())
def test_what_was_sealed_opens_with_the_same_ring_place_and_purpose(plain: bytes, aad: bytes, purpose: str) -> None:
    assert BEFORE.open(BEFORE.seal(plain, aad=aad, purpose=purpose), aad=aad, purpose=purpose) == plain


@given(plain=st.binary(), aad=st.binary())
def test_after_a_rotation_old_keys_still_open_and_the_new_one_seals(plain: bytes, aad: bytes) -> None:
    assert ROTATED.open(BEFORE.seal(plain, aad=aad), aad=aad) == plain
    with pytest.raises(KeyRingError, match='"k2"'):
        BEFORE.open(ROTATED.seal(plain, aad=aad), aad=aad)


@given(plain=st.binary(), aad=st.binary(), other=st.binary())
def test_nothing_opens_in_the_place_of_something_else(plain: bytes, aad: bytes, other: bytes) -> None:
    sealed = BEFORE.seal(plain, aad=aad)
    if other != aad:
        with pytest.raises(KeyRingError):
            BEFORE.open(sealed, aad=other)
    with pytest.raises(KeyRingError):
        BEFORE.open(sealed, aad=aad, purpose="payload")


@given(data=st.data(), plain=st.binary())
def test_a_single_changed_bit_anywhere_is_noticed(data: st.DataObject, plain: bytes) -> None:
    sealed = bytearray(ROTATED.seal(plain, aad=b"line/1"))
    at = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[at // 8] ^= 1 << at % 8
    with pytest.raises(KeyRingError):
        ROTATED.open(bytes(sealed), aad=b"line/1")


@given(data=st.data(), plain=st.binary())
def test_a_shortened_value_is_noticed(data: st.DataObject, plain: bytes) -> None:
    sealed = ROTATED.seal(plain, aad=b"")
    with pytest.raises(KeyRingError):
        ROTATED.open(sealed[: data.draw(st.integers(0, len(sealed) - 1))], aad=b"")


@given(noise=st.binary())
def test_noise_raises_the_rings_own_error(noise: bytes) -> None:
    with pytest.raises(KeyRingError):
        ROTATED.open(noise, aad=b"")


# Digits: plain text could by chance be one of our own words.
@given(content=st.binary(min_size=8).map(bytes.hex), key_id=st.sampled_from(["k1", "k9"]))
def test_an_error_carries_nothing_of_the_content(content: str, key_id: str) -> None:
    sealed = KeyRing(primary=key_id, keys={key_id: NEW}, stable=STABLE).seal(content.encode(), aad=b"")
    with pytest.raises(KeyRingError) as caught:
        BEFORE.open(sealed, aad=b"")
    shown = caught.value.message + caught.value.hint
    assert content not in shown
    assert sealed[-16:].hex() not in shown


def test_the_same_value_is_never_sealed_twice_alike() -> None:
    assert len({BEFORE.seal(SECRET, aad=b"") for _ in range(100)}) == 100


@given(parts=st.lists(st.text()), others=st.lists(st.text()))
def test_macs_are_equal_only_for_equal_lists_of_parts(parts: list[str], others: list[str]) -> None:
    assert (BEFORE.mac("mark", *parts) == BEFORE.mac("mark", *others)) == (parts == others)


@given(text=st.text(min_size=1), cut=st.integers(0, 50))
def test_macs_tell_where_one_part_ends_and_the_next_begins(text: str, cut: int) -> None:
    assert BEFORE.mac("mark", text[:cut], text[cut:]) != BEFORE.mac("mark", text)


def test_macs_differ_by_purpose_and_survive_a_rotation() -> None:
    assert BEFORE.mac("mark", "a") != BEFORE.mac("person", "a")
    assert ROTATED.mac("mark", "a") == BEFORE.mac("mark", "a")
    assert len(BEFORE.mac("mark")) == 32


def test_macs_and_sealed_values_of_today_stay_readable() -> None:
    # Marks stand in host files and sealed values in ledgers: a change of either format breaks them.
    assert BEFORE.mac("mark", "line", "user").hex() == (
        "50f56c7a315d0c69aafb30e7ed2c9f5c4cec7a54b4d644b98aa1c88bb997a3ed"
    )
    sealed = bytes.fromhex(
        "01026b3179f71e7b7c3a404fcad4949ccb406662b3464125143730fcda633bb893499b2d0ff16c4dc32a66fa91c58f9540c72465b470e8b2fc5ca0c3"
    )
    assert BEFORE.open(sealed, aad=b"line/1/password") == SECRET


def test_a_ring_shows_nothing_of_its_keys() -> None:
    shown = repr(BEFORE) + str(BEFORE)
    assert "KeyRing" in shown
    for key in (OLD, STABLE):
        assert repr(key) not in shown
        assert text_of(key) not in shown
    with pytest.raises(TypeError, match="not pickled"):
        BEFORE.__reduce__()


def test_a_created_ring_is_private_and_loads_again(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    sealed = KeyRing.create(path).seal(SECRET, aad=b"here")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert KeyRing.load(path).open(sealed, aad=b"here") == SECRET


def test_two_created_rings_share_no_key(tmp_path: Path) -> None:
    one, other = KeyRing.create(tmp_path / "one"), KeyRing.create(tmp_path / "other")
    assert one.mac("mark") != other.mac("mark")
    with pytest.raises(KeyRingError):
        other.open(one.seal(SECRET, aad=b""), aad=b"")


def test_an_existing_ring_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    KeyRing.create(path)
    before = path.read_bytes()
    with pytest.raises(Misconfigured, match="exists already"):
        KeyRing.create(path)
    assert path.read_bytes() == before


def test_a_ring_is_not_created_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be written"):
        KeyRing.create(tmp_path / "none" / "keys.json")


def test_a_ring_written_by_hand_loads_with_all_its_keys(tmp_path: Path) -> None:
    content = {"primary": "k2", "keys": {"k1": text_of(OLD), "k2": text_of(NEW)}, "stable": text_of(STABLE)}
    loaded = KeyRing.load(written(tmp_path / "keys.json", json.dumps(content), 0o400))
    assert loaded.primary == "k2"
    assert loaded.open(BEFORE.seal(SECRET, aad=b""), aad=b"") == SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o700, 0o644, 0o777])
def test_a_file_that_others_may_use_is_refused_with_the_command_that_helps(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys.json"
    KeyRing.create(path)
    path.chmod(mode)
    with pytest.raises(Misconfigured) as caught:
        KeyRing.load(path)
    assert str(path) in caught.value.message
    assert f"{mode:04o}" in caught.value.message
    assert f"chmod 600 {path}" in caught.value.hint


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    KeyRing.create(path)
    stranger = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: stranger)
    with pytest.raises(Misconfigured, match="belongs to user") as caught:
        KeyRing.load(path)
    assert f"chown {stranger}" in caught.value.hint


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path, words in ((tmp_path, "not a file"), (pipe, "not a file"), (tmp_path / "x", "does not exist")):
        with pytest.raises(Misconfigured, match=words):
            KeyRing.load(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "json invalid"),
        ("[]", "the file"),
        ("{}", "primary: missing"),
        ('{"primary": "k1", "keys": {"k1": "%k"}, "stable": "%s", "spare": "%k"}', "extra forbidden"),
        ('{"primary": "k2", "keys": {"k1": "%k"}, "stable": "%s"}', '"primary" names no key'),
        ('{"primary": "k1", "keys": {}, "stable": "%s"}', '"primary" names no key'),
        ('{"primary": "%k", "keys": {"k1": "%k"}, "stable": "%s"}', '"primary" names no key'),
        ('{"primary": "k1", "keys": {"k1": "!%k"}, "stable": "%s"}', 'key "k1" is not base64'),
        ('{"primary": "k1", "keys": {"k1": "%s"}, "stable": "é"}', '"stable" is not base64'),
        ('{"primary": "k1", "keys": {"k1": "a2V5"}, "stable": "%s"}', 'key "k1" is not 32 bytes'),
        ('{"primary": "k1", "keys": {"k1": "%k"}, "stable": "a2V5"}', '"stable" is not 32 bytes'),
        ('{"primary": "%k", "keys": {"%k": "%k"}, "stable": "%s"}', "keys: string pattern"),
        ('{"primary": "k1", "keys": {"k1": 7}, "stable": "%s"}', "keys: string type"),
        (" " * (1 << 20) + "{}", "larger"),
    ],
)
def test_a_broken_ring_is_refused_without_a_word_of_its_keys(tmp_path: Path, content: str, words: str) -> None:
    content = content.replace("%k", text_of(OLD)).replace("%s", text_of(STABLE))
    path = written(tmp_path / "keys.json", content)
    with pytest.raises(Misconfigured) as caught:
        KeyRing.load(path)
    shown = caught.value.message + caught.value.hint
    assert words in shown
    assert str(path) in shown
    assert text_of(OLD) not in shown
    assert text_of(STABLE) not in shown


def test_a_rotated_ring_seals_with_a_fresh_key_and_opens_what_the_old_one_sealed(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    before = KeyRing.create(path)
    sealed = before.seal(SECRET, aad=b"here")
    rotated = KeyRing.rotate(path)
    assert key_of(rotated.seal(SECRET, aad=b"")) == "k2"
    assert rotated.open(sealed, aad=b"here") == SECRET
    assert KeyRing.rotate(path).primary == "k3"
    assert rotated.mac("mark", "a") == before.mac("mark", "a")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_process_that_meets_a_newer_key_reads_its_ring_again_and_seals_with_it(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    running = KeyRing.create(path)
    sealed = KeyRing.rotate(path).seal(SECRET, aad=b"")
    assert running.open(sealed, aad=b"") == SECRET
    assert key_of(running.seal(SECRET, aad=b"")) == "k2"


def test_a_ring_that_was_replaced_by_another_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    running = KeyRing.create(path)
    path.unlink()
    KeyRing.create(path)
    sealed = KeyRing.rotate(path).seal(SECRET, aad=b"")
    with pytest.raises(KeyRingError, match="lacks"):
        running.open(sealed, aad=b"")


def test_a_process_seals_with_the_new_key_as_soon_as_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    running = KeyRing.create(path)
    KeyRing.rotate(path)
    # It has met nothing that the new key sealed; with the old one this would be lost once that is retired.
    assert key_of(running.seal(SECRET, aad=b"")) == "k2"


@pytest.mark.parametrize("harm", ["", "{", None])
def test_a_ring_that_breaks_under_a_running_process_is_told_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: str | None
) -> None:
    path = tmp_path / "keys.json"
    running = KeyRing.create(path)
    whole = path.read_text()
    path.unlink()
    if harm is not None:
        written(path, harm)
    for _ in range(2):
        assert running.open(running.seal(SECRET, aad=b""), aad=b"") == SECRET
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "the key ring that was read before stays in use"
    ]
    path.unlink(missing_ok=True)
    written(path, whole)
    KeyRing.rotate(path)
    assert key_of(running.seal(SECRET, aad=b"")) == "k2"


def test_a_retired_key_opens_what_temporal_keeps_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    running = KeyRing.create(path)
    old = json.loads(path.read_text())["keys"]["k1"]
    of_ledger, payload = running.seal(SECRET, aad=b"here"), running.seal(SECRET, aad=b"", purpose=PAYLOADS)
    KeyRing.rotate(path)
    retired = KeyRing.retire(path, "k1")
    assert retired.open(payload, aad=b"", purpose=PAYLOADS) == SECRET
    with pytest.raises(KeyRingError, match="was destroyed"):
        retired.open(of_ledger, aad=b"here")
    assert old not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    # A process that was running forgets it too, and goes on.
    assert running.open(running.seal(SECRET, aad=b""), aad=b"") == SECRET
    with pytest.raises(KeyRingError, match="was destroyed"):
        running.open(of_ledger, aad=b"here")
    assert running.open(payload, aad=b"", purpose=PAYLOADS) == SECRET
    assert running.mac("mark") == retired.mac("mark")


def test_a_retired_keys_name_is_not_given_again_and_it_can_not_be_retired_twice(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    KeyRing.create(path)
    KeyRing.rotate(path)
    KeyRing.retire(path, "k1")
    assert KeyRing.rotate(path).primary == "k3"
    KeyRing.retire(path, "k2")
    assert KeyRing.rotate(path).old_keys == ("k3",)
    before = path.read_bytes()
    for key_id, words in (("k1", "has no key"), ("k9", "has no key"), ("k4", "seals now")):
        with pytest.raises(KeyRingError, match=words):
            KeyRing.retire(path, key_id)
    assert path.read_bytes() == before


def test_a_rotation_that_was_cut_short_is_told_and_the_ring_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    ring = KeyRing.create(path)
    written(tmp_path / ".keys.json.new", "{")
    with pytest.raises(Misconfigured, match="in the way") as caught:
        KeyRing.rotate(path)
    assert "remove" in caught.value.hint
    assert KeyRing.load(path).primary == ring.primary
