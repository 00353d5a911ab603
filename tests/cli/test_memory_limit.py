"""`ulimit -v`: a binary says that memory is out, or is ended by what failed, but it never hangs."""

import subprocess

import forked
import pytest
import started

pytestmark = pytest.mark.one_stack


def limited(folder, binary, megabytes, *flags):
    command = f'ulimit -v {megabytes * 1000}; exec "$0" "$@"'
    flags = [*started.TINY, *flags, f"--output_dir={folder / 'out'}"]
    process = subprocess.Popen(
        ["sh", "-c", command, started.BIN / binary, *flags],
        cwd=folder,
        env=started.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    done = started.end(process)
    started.wait_for_the_end_of(process.pid)
    return done


def check(done):
    if done.returncode and done.returncode < 128:
        assert "Traceback" not in done.stderr and done.stderr.strip(), done.stderr


@pytest.mark.parametrize("megabytes", [150, 600, 1200])
def test_evaluate(tmp_path, megabytes):
    done = limited(tmp_path, "evaluate", megabytes, "--trials=1")
    check(done)
    assert done.returncode


def test_what_explains_it_needs_no_numpy(tmp_path):
    done = forked.code(tmp_path, "import sys; sys.modules['numpy'] = None; import tfshape.cli.common")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("binary", ["evaluate", "sweep"])
def test_many_limits(tmp_path, binary):
    for megabytes in (60, 100, 200, 300, 400, 500, 700, 900, 1100, 1300, 1500, 1700, 2000, 2500, 3000, 4000):
        flags = ["--trials=1", *(["--workers=1"] if binary == "sweep" else [])]
        folder = tmp_path / str(megabytes)
        folder.mkdir()
        check(limited(folder, binary, megabytes, *flags))
