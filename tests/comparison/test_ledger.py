"""Who runs what: claims, records, processes that are gone, storages that are not there."""

import errno
import math
import os
import time
from pathlib import Path

import pytest

from thalweg.comparison import ledger as ledgers
from thalweg.comparison.ledger import Ledger
from thalweg.comparison.spaces import SPACES
from thalweg.errors import InputError


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "study.log")


def another(path, owner):
    """A ledger as another process has it."""
    made = Ledger(path, "compare-x", "abc")
    made._owner = owner
    return made


def test_what_is_done_is_remembered(path):
    ledger = Ledger(path, "compare-x", "abc")
    study = ledger.study("reviews", "adamw", "trial")
    settings = {"lr": 0.01, "betas": [0.9, 0.95]}
    ledger.claim(study, "1", settings, SPACES["adamw"]).finish(math.inf, {"loss": None})
    again = Ledger(path, "compare-x", "abc")
    study = again.study("reviews", "adamw", "trial")
    assert again.records(study) == {"1": {"loss": None}}
    assert again.claim(study, "1", settings, SPACES["adamw"]) is None
    again.forget()
    assert again.records(again.study("reviews", "adamw", "trial")) == {}


@pytest.mark.parametrize("torn", [b'{"op_code":8,"tr', b"\0\0\0"])
def test_half_a_line_of_a_process_that_was_killed_is_cut_off(path, torn):
    ledger = Ledger(path, "compare-x", "abc")
    study = ledger.study("reviews", "adamw", "trial")
    with open(path, "ab") as file:
        file.write(torn)
    ledger.claim(study, "1", {}, {}).finish(0.5, {"loss": 0.5})
    again = Ledger(path, "compare-x", "abc")
    assert again.records(again.study("reviews", "adamw", "trial")) == {"1": {"loss": 0.5}}


def test_a_run_of_another_process_is_left_alone_while_that_lives(path, monkeypatch):
    ours, theirs = Ledger(path, "compare-x", "abc"), another(path, f"elsewhere:{os.getpid()}")
    study = theirs.study("reviews", "adamw", "trial")
    claim = theirs.claim(study, "0", {}, {})
    assert ours.claim(ours.study("reviews", "adamw", "trial"), "0", {}, {}) is None
    now = time.time()
    monkeypatch.setattr(ledgers.time, "time", lambda: now + 100.0)
    claim.beat()
    monkeypatch.setattr(ledgers.time, "time", lambda: now + 200.0)
    assert ours.claim(study, "0", {}, {}) is None
    monkeypatch.setattr(ledgers.time, "time", lambda: now + 300.0)
    assert ours.claim(study, "0", {}, {}) is not None


def test_a_run_of_a_process_that_is_gone_is_taken_over_at_once(path):
    gone = another(path, f"{ledgers.socket.gethostname()}:{2**22 + 7}")  # above every process number
    study = gone.study("reviews", "adamw", "trial")
    gone.claim(study, "0", {}, {})
    assert Ledger(path, "compare-x", "abc").claim(study, "0", {}, {}) is not None


def test_a_process_number_that_is_used_again_is_not_waited_for(path, monkeypatch):
    gone = another(path, f"{ledgers.socket.gethostname()}:{os.getppid()}")
    study = gone.study("reviews", "adamw", "trial")
    gone.claim(study, "0", {}, {})
    ours = Ledger(path, "compare-x", "abc")
    assert ours.claim(study, "0", {}, {}) is None
    later = time.time() + 200.0
    monkeypatch.setattr(ledgers.time, "time", lambda: later)
    assert ours.claim(study, "0", {}, {}) is not None


def test_a_sign_of_life_from_the_future_is_not_waited_for(path, monkeypatch):
    theirs = another(path, "elsewhere:1")
    study = theirs.study("reviews", "adamw", "trial")
    now = time.time()
    with monkeypatch.context() as later:
        later.setattr(ledgers.time, "time", lambda: now + 10**9)
        theirs.claim(study, "0", {}, {})
    assert Ledger(path, "compare-x", "abc").claim(study, "0", {}, {}) is not None


def test_a_run_that_has_ended_without_a_record_is_made_again(path):
    ledger = Ledger(path, "compare-x", "abc")
    study = ledger.study("reviews", "adamw", "trial")
    attributes = {ledgers.PLACE: "0"}
    ledger._storage.create_new_trial(study, ledgers.create_trial(value=0.5, user_attrs=attributes))
    assert ledger.records(study) == {}
    assert ledger.claim(study, "0", {}, {}) is not None


@pytest.mark.parametrize("lock", ["study.log.lock", ".study.log.lock"])
@pytest.mark.parametrize("leave", [lambda lock: lock.write_text("1"), lambda lock: lock.symlink_to(lock)])
def test_what_lies_in_the_place_of_the_lock_is_not_waited_for(path, lock, leave):
    leave(Path(path).with_name(lock))
    begin = time.monotonic()
    ledger = Ledger(path, "compare-x", "abc")
    assert ledger.claim(ledger.study("reviews", "adamw", "trial"), "0", {}, {}) is not None
    assert time.monotonic() - begin < 10.0, "Optuna's lock is waited for, for 30 seconds"


def test_who_is_at_a_run_of_the_comparison_is_known(path):
    ledger, others = Ledger(path, "compare-x", "abc"), another(path, "elsewhere:4711")
    claim = others.claim(others.study("reviews", "adamw", "trial"), "0", {}, {})
    assert Ledger(path, "compare-x", "of another question").workers() == {"elsewhere:4711"}
    assert Ledger(path, "compare-y", "abc").workers() == set()
    claim.give_up()
    assert ledger.workers() == set()


def test_long_names_of_entrants_are_told_apart(path):
    ledger = Ledger(path, "compare-x", "abc")
    names = ["bfgs:" + "a" * 600, "bfgs:" + "a" * 601]
    studies = [ledger.study("reviews", name, "seed") for name in names]
    assert studies[0] != studies[1]
    assert max(len(name) for name in ledger._studies) < 200


def test_a_run_that_is_given_up_is_free(path):
    ours, theirs = Ledger(path, "compare-x", "abc"), another(path, "elsewhere:1")
    study = theirs.study("reviews", "adamw", "seed")
    theirs.claim(study, "0", {}, {}).give_up()
    assert ours.claim(ours.study("reviews", "adamw", "seed"), "0", {}, {}) is not None


def test_the_quicker_of_two_claims_counts(path, monkeypatch):
    ours, theirs = Ledger(path, "compare-x", "abc"), another(path, "elsewhere:1")
    study = ours.study("reviews", "adamw", "trial")
    theirs.study("reviews", "adamw", "trial")
    real, seen = ours._is_taken, []

    def first_look_is_early(*arguments, **keywords):
        if not seen:
            seen.append(True)
            assert not real(*arguments, **keywords)
            assert theirs.claim(study, "0", {}, {}) is not None  # between our look and our claim
            return False
        return real(*arguments, **keywords)

    monkeypatch.setattr(ours, "_is_taken", first_look_is_early)
    assert ours.claim(study, "0", {}, {}) is None


def test_a_database_works_as_a_file_does(tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'study.db'}", "compare-x", "abc")
    study = ledger.study("reviews", "sgd", "seed")
    ledger.claim(study, "0", {"lr": 1.0}, SPACES["sgd"]).finish(0.5, {"loss": 0.5, "curve": {"step": [0, 1]}})
    assert ledger.records(study) == {"0": {"loss": 0.5, "curve": {"step": [0, 1]}}}
    assert ledger.claim(study, "0", {}, {}) is None


def test_a_file_that_is_no_journal_is_left_alone(tmp_path):
    """It would be read to its end, which /dev/zero has not, and lose its last line where that is cut off."""
    data = tmp_path / "data.csv"
    for content in (b"hello", b'{"a": 1}\n{"b"', b"\0", b"\n"):
        data.write_bytes(content)
        with pytest.raises(InputError, match=r"data\.csv is no journal of a comparison; name a new file"):
            Ledger(str(data), "compare-x", "abc")
        assert data.read_bytes() == content
    for content in (b"", b'{"op_co', b'{"op_code":0,"wor'):
        data.write_bytes(content)
        ledger = Ledger(str(data), "compare-x", "abc")
        assert ledger.records(ledger.study("a")) == {}
    for storage, what in (("/dev/zero", "a device"), ("/dev/null", "a device"), (str(tmp_path), "a folder")):
        with pytest.raises(InputError, match=rf"{storage}: expected a regular file, got {what}"):
            Ledger(storage, "compare-x", "abc")


@pytest.mark.parametrize(
    ("storage", "match"),
    [
        ("/no/such/folder/study.log", "there is no folder /no/such/folder; make it first"),
        ("nodb://host/name", "The storage nodb://host/name cannot be used"),
        ("mysql+nodriver://me:secret@host/name", r"The storage mysql\+nodriver://me@host/name cannot be used"),
        ("sqlite:////no/such/folder/study.db", "cannot be used .*unable to open database file"),
    ],
)
def test_a_storage_that_cannot_be_reached_is_told_without_its_password(storage, match):
    with pytest.raises(InputError, match=match) as caught:
        Ledger(storage, "compare-x", "abc")
    assert "secret" not in str(caught.value)


def test_a_full_disk_is_no_fault_of_the_storages_address(tmp_path, monkeypatch):
    kept = Ledger(str(tmp_path / "study.log"), "a", "b")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(kept._storage, "create_new_study", full)
    with pytest.raises(OSError, match=r"No space left on device: .*study\.log"):
        kept.study("texts")


SERVER = os.environ.get("THALWEG_POSTGRES", "")  # postgresql+psycopg://USER@localhost:PORT/DATABASE


@pytest.mark.skipif(not SERVER, reason="THALWEG_POSTGRES has no address of a PostgreSQL server")
def test_two_machines_share_a_postgresql_server(monkeypatch):
    ours, theirs = Ledger(SERVER, "compare-x", "abc"), another(SERVER, "elsewhere:1")
    ours.forget()
    study = ours.study("reviews", "adamw", "trial")
    assert theirs.study("reviews", "adamw", "trial") == study
    settings = {"lr": 0.01, "betas": [0.9, 0.95]}
    done, under_way = (theirs.claim(study, place, settings, SPACES["adamw"]) for place in "01")
    done.finish(math.inf, {"loss": None})
    assert under_way is not None
    assert [ours.claim(study, place, settings, SPACES["adamw"]) for place in "01"] == [None, None]
    assert ours.records(study) == {"0": {"loss": None}}
    assert ours.workers() == {"elsewhere:1"}
    now = time.time()
    monkeypatch.setattr(ledgers.time, "time", lambda: now + 200.0)  # it was killed
    ours.claim(study, "1", settings, SPACES["adamw"]).finish(0.5, {"loss": 0.5})
    assert ours.records(study)["1"] == {"loss": 0.5}
    ours.forget()
    login, _, place = SERVER.partition("@")
    with pytest.raises(InputError, match=r"The storage postgresql.*/none cannot be used") as caught:
        Ledger(f"{login}:geheim@{place.rpartition('/')[0]}/none", "compare-x", "abc")
    assert "geheim" not in str(caught.value)
    for ledger in (ours, theirs):
        ledger._storage._backend.scoped_session.remove()
        ledger._storage._backend.engine.dispose()
