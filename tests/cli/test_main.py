"""`python -m tfshape` lists the binaries and runs them; each has a file in bin/ and an installed command."""

import os
import pathlib
import subprocess
import sys

import pytest

from tfshape.cli import BINARIES

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "tfshape", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_list():
    done = run()
    assert done.returncode == 0 and all(name in done.stdout for name in BINARIES)
    wrong = run("evalute")
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1 and "evalute" in wrong.stderr


@pytest.mark.parametrize("name", BINARIES)
def test_every_binary_has_help_a_file_and_an_entry_point(name):
    done = run(name, "--help")
    assert done.returncode == 0 and f"bin/{name}" in done.stdout and "--[no]quiet" in done.stdout
    assert f"\nrun {name} " in (ROOT / "bin" / name).read_text()
    assert f"tfshape-{name} = tfshape.__main__:{name}" in (ROOT / "setup.py").read_text()
    assert done.stderr == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_help_in_a_locale_that_cannot_encode_it(encoding):
    command = [sys.executable, "-m", "tfshape", "evaluate", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"") and rb"\u2026" in done.stdout


def test_out_of_memory_is_one_line(tmp_path):
    (tmp_path / "toy.py").write_text(
        "from tfshape.cli import common\n"
        "def main():\n    try:\n        bytes(1 << 60)\n"
        "    except MemoryError as error:\n        raise RuntimeError('of a library') from error\n"
        "common.run(main)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, tmp_path / "toy.py"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "__main__: out of memory: MemoryError\n")


@pytest.mark.parametrize("interrupted", [False, True])
def test_tensorflow_s_banner_is_dropped_and_its_warnings_are_not(tmp_path, interrupted):
    """With a stand-in for TensorFlow, which speaks as 2.21 does while it loads."""
    (tmp_path / "tensorflow.py").write_text(
        "import os, warnings\n"
        "os.write(2, b'WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\\n')\n"
        "os.write(2, b'I0000 00:00:17.8 1 port.cc:153] oneDNN custom operations are on.\\nW0000 real\\n')\n"
        f"if {interrupted}: raise KeyboardInterrupt\n"
    )
    (tmp_path / "toy.py").write_text(
        "import sys\nfrom tfshape.cli import common\n"
        "def main():\n    import tensorflow\n    print('later', file=sys.stderr)\n"
        "common.run(main)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    done = subprocess.run([sys.executable, tmp_path / "toy.py"], env=environment, capture_output=True, text=True)
    last = "toy.py: interrupted; finished work is kept" if interrupted else "later"
    assert done.stderr.replace("__main__", "toy.py").splitlines() == ["W0000 real", last]
    assert done.returncode == (130 if interrupted else 0)


def test_bash_completes_flags_and_their_values():
    script = run("completion").stdout

    def complete(*words):
        given = f"COMP_WORDS=({' '.join(map(repr, words))}); COMP_CWORD={len(words) - 1}; _tfshape 2>/dev/null"
        command = ["bash", "-c", f'{script}\n{given}; echo "${{COMPREPLY[@]}}"']
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    assert complete("bin/evaluate", "--learn") == ["--learning_rate="]
    assert complete("tfshape-evaluate", "--quiet", "--adap") == ["--adaptive"]
    assert complete("bin/evaluate", "--attack", "=", "gradient_m") == ["gradient_matching"]
    assert set(complete("bin/benchmark", "--suite", "=")) >= {"shaping", "poison"}
    assert complete("bin/audit", "--attack") == []
    assert f"complete -F _tfshape {' '.join(f'bin/{name} tfshape-{name}' for name in BINARIES)}" in script
