"""Folders of results: links, locks, and files that are added to."""

import os
import subprocess
import sys
import threading

import pytest

from tfshape import atomic, folders


def test_the_folder_itself_may_be_a_link_and_nothing_in_it(tmp_path):
    (tmp_path / "real" / "cache").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "study").symlink_to("real")
    assert folders.inside(tmp_path / "study", "cache", "new") == tmp_path / "study" / "cache" / "new"
    links = {"driver.lock": "../outside/file", "report": "../outside", "own": "cache", "dangling": "nowhere"}
    for name, target in links.items():
        (tmp_path / "real" / name).symlink_to(target)
        for path in (name, f"{name}/below"):
            with pytest.raises(ValueError, match=rf"study/{name} is a symbolic link.* remove it$"):
                folders.inside(tmp_path / "study", path)
    for name in ("../outside", "cache/../../outside", "/etc/passwd"):
        with pytest.raises(ValueError, match="leads out of"):
            folders.inside(tmp_path / "study", name)
    os.mkfifo(tmp_path / "real" / "pipe")
    with pytest.raises(ValueError, match="neither a file nor a folder"):
        folders.inside(tmp_path / "study", "pipe")


def test_links_are_not_opened_even_unchecked(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for use in (
        lambda path: folders.append(path, "text"),
        lambda path: folders.lock(path).__enter__(),
        folders.holder,
    ):
        with pytest.raises(ValueError, match="is a symbolic link"):
            use(tmp_path / "link")
    assert not (tmp_path / "target").exists()


def test_what_cannot_be_added_whole_is_not_added(tmp_path, monkeypatch):
    path, write = tmp_path / "lines", os.write
    folders.append(path, "first\n")

    def full(descriptor, data):
        if len(data) > 4:
            return write(descriptor, data[:4])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left") as error:
            folders.append(path, "second\n")
    assert error.value.filename == str(path) and path.read_text() == "first\n"
    folders.append(path, "second\n")
    assert path.read_text() == "first\nsecond\n"


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OSError, match="No space left") as error, atomic.replacing(tmp_path / "table"):
        raise OSError(28, "No space left on device")
    assert error.value.filename == str(tmp_path / "table")


def test_a_lock_says_who_holds_it_and_dies_with_its_process(tmp_path):
    path = tmp_path / ".lock"
    assert folders.holder(path) is None and not path.exists()
    code = (
        "import sys\nfrom tfshape import folders\n"
        "with folders.lock(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    other = subprocess.Popen([sys.executable, "-c", code, str(path)], **pipes)
    assert other.stdout.readline() == b"held\n"
    assert folders.holder(path)["pid"] == other.pid
    with pytest.raises(ValueError, match=rf"^output_dir='out' is in use by another run \(pid {other.pid} on "):
        folders.alone(path, "output_dir", "out").__enter__()
    with pytest.raises(BlockingIOError):
        folders.lock(path, wait=False).__enter__()
    other.kill()
    other.communicate()
    assert folders.holder(path) is None
    with folders.alone(path, "output_dir", "out"):
        assert folders.holder(path)["pid"] == os.getpid()
    assert not path.exists()


def test_one_at_a_time_also_while_the_file_is_deleted(tmp_path):
    path, inside, most = tmp_path / ".lock", [], []

    def work():
        for _ in range(50):
            with folders.lock(path, remove=True):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 200 and max(most) == 1 and not path.exists()
