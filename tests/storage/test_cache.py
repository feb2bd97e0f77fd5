"""Vectors that are kept on disk: found again, refused when damaged, and dispensable."""

import numpy as np

from thalweg.storage import cache
from thalweg.storage.cache import VectorCache, cache_folder

KEYS = [bytes([number]) * 16 for number in range(4)]
VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_what_was_put_is_found_by_its_key_in_any_order(tmp_path):
    kept = VectorCache("kind", 3, tmp_path)
    kept.put(KEYS[:2], VECTORS[:2])
    kept.put(KEYS[2:3], VECTORS[2:3])
    found, missing = VectorCache("kind", 3, tmp_path).find([KEYS[2], KEYS[3], KEYS[0], KEYS[2]])
    assert missing.tolist() == [1]
    assert np.array_equal(found[[0, 2, 3]], VECTORS[[2, 0, 2]])


def test_other_kinds_and_widths_are_not_looked_at(tmp_path):
    VectorCache("kind", 3, tmp_path).put(KEYS, VECTORS)
    assert len(VectorCache("other", 3, tmp_path).find(KEYS)[1]) == 4
    assert len(VectorCache("kind", 2, tmp_path).find(KEYS)[1]) == 4


def test_a_file_that_was_changed_cut_or_renamed_is_as_if_it_were_not_there(tmp_path):
    kept = VectorCache("kind", 3, tmp_path)
    kept.put(KEYS, VECTORS)
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:40] + b"?" + whole[41:], b"", whole * 2):
        path.write_bytes(damaged)
        assert len(kept.find(KEYS)[1]) == 4
    path.write_bytes(whole)
    path.rename(path.with_name("0" * 64))
    assert len(kept.find(KEYS)[1]) == 4


def test_where_nothing_can_be_written_nothing_happens(tmp_path):
    place = tmp_path / "file"
    place.write_text("")
    kept = VectorCache("kind", 3, place)
    kept.put(KEYS, VECTORS)
    assert len(kept.find(KEYS)[1]) == 4


def test_the_oldest_files_give_way(tmp_path, monkeypatch):
    kept = VectorCache("kind", 3, tmp_path)
    kept.put(KEYS[:1], VECTORS[:1])
    monkeypatch.setattr(cache, "MOST_BYTES", 60)
    kept.put(KEYS[1:2], VECTORS[1:2])
    assert kept.find(KEYS[:2])[1].tolist() == [0]


def test_the_place_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("THALWEG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "thalweg"
