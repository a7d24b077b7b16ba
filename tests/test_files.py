"""A file or a folder is whole under its name, or what was there before is."""

import sys
from pathlib import Path

import pytest

from ih_jax import files


def test_what_was_written_takes_the_place_of_what_was_there(tmp_path):
    path = tmp_path / "new" / "card.json"
    for text in ("first", "second é\n"):
        files.write_text(path, text)
        assert path.read_bytes() == text.encode()
    assert [p.name for p in path.parent.iterdir()] == ["card.json"]


def test_after_an_error_the_old_file_stands_and_nothing_is_left_over(tmp_path):
    path = tmp_path / "card.json"
    files.write_text(path, "before")

    def fail():
        with files.atomic(path) as temporary:
            temporary.write_text("half")
            assert path.read_text() == "before"
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "part"
    for names in (["a", "b"], ["c"]):
        with files.atomic(path) as temporary:
            (temporary / "deep").mkdir(parents=True)
            for name in names:
                (temporary / "deep" / name).write_text(name)
    assert sorted(p.name for p in path.rglob("*")) == ["c", "deep"]

    def fail():
        with files.atomic(path) as temporary:
            temporary.mkdir()
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["part"]
    assert (path / "deep" / "c").is_file()


def test_what_is_renamed_was_synced_first(tmp_path, monkeypatch):
    done = []
    fsync, replace = files.os.fsync, files.os.replace
    monkeypatch.setattr(files.os, "fsync", lambda fd: (done.append("sync"), fsync(fd)))
    monkeypatch.setattr(files.os, "replace", lambda a, b: (done.append("rename"), replace(a, b)))
    with files.atomic(tmp_path / "file") as temporary:
        temporary.write_text("text")
    assert done == ["sync", "rename", "sync"]  # the file, its new name, the folder of the name
    done.clear()
    with files.atomic(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "inside").write_text("text")
    assert done == ["sync", "sync", "rename", "sync"]


def test_the_cache_is_where_the_user_says_or_where_the_system_keeps_caches(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert files.cache_folder() == Path("/somewhere/ih_jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    found = files.cache_folder()
    assert found.is_absolute()
    assert "ih_jax" in found.parts
    if sys.platform == "linux":
        assert found == Path.home() / ".cache" / "ih_jax"
