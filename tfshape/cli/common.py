"""What every binary shares: reading flags, one-line errors, exit codes and help."""

import contextlib
import importlib.abc
import importlib.util
import io
import math
import os
import pathlib
import re
import sys
import tempfile
import time
import traceback

from absl import flags

from tfshape import banner
from tfshape.cli import interrupt

FLAGS = flags.FLAGS
LINE_SECONDS = 15
PACKAGE = str(pathlib.Path(__file__).resolve().parents[1])

flags.DEFINE_bool("help", False, "show this binary's flags", short_name="h")
flags.DEFINE_bool("helpfull", False, "show the flags of every module")
flags.DEFINE_bool("quiet", False, "no progress bar and no messages; only results and errors")


def run(main):
    """Parses the flags, calls `main()` and exits: 0 done, 1 out of memory, 2 a value that is not allowed, 130 Ctrl-C.

    Args:
        main: function without arguments; its module's docstring and flags are the help text. A ValueError raised
            by tfshape itself, or an OSError about a file, ends as one line on stderr; any other error, being a bug
            of ours, keeps its traceback.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # hides its banner; failures still raise
    sys.meta_path.insert(0, _QuietTensorFlow())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # not every locale can encode what we print
    interrupt.raises()
    with explained(main.__module__.rsplit(".", 1)[-1]):
        _parse_and_call(main)
    interrupt.ends_at_once()
    sys.exit(0)


@contextlib.contextmanager
def explained(program):
    """Ends `program` by a line on stderr and its exit code if what is inside raises, unless that is a bug of ours."""
    try:
        yield
    except BaseException as error:
        interrupt.ends_at_once()
        code = _explain(program, error)
        if code is None:
            raise
        sys.exit(code)


def _parse_and_call(main):
    rest = FLAGS(sys.argv)[1:]
    if FLAGS.help or FLAGS.helpfull:
        print(_help(main, FLAGS.helpfull))
        return
    if rest:
        raise flags.Error(f"{rest[0]!r}: not a flag; allowed are --name=value flags, see --help")
    main()


def _explain(program, error):
    """Says in a line on stderr what ended the program, and returns its exit code; None for a bug."""
    if interrupt.received() or isinstance(error, KeyboardInterrupt):
        _say(program, "interrupted; finished work is kept")
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        interrupt.leave()  # an interrupted TensorFlow need not end well
    if isinstance(error, SystemExit):
        return error.code or 0
    if isinstance(error, BrokenPipeError):  # its reader has seen enough: `… --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    short = _short_of_memory(error)
    if short:
        _say(program, f"out of memory: {short}")
        return 1
    if isinstance(error, OSError) and error.filename is not None:
        error = f"{error.filename}: {error.strerror}"
    elif not isinstance(error, flags.Error) and not (
        isinstance(error, ValueError) and traceback.extract_tb(error.__traceback__)[-1].filename.startswith(PACKAGE)
    ):
        return None
    _say(program, error)
    return 2


_MEMORY = re.compile("cannot allocate memory|failed to map segment|bad_alloc|oom when|can't start new thread", re.I)


def _short_of_memory(error):
    """The line of an error, or of what it came from, that says that there was not enough memory, or None."""
    while error is not None:
        lines = str(error).splitlines()
        found = next((line.strip() for line in lines if _MEMORY.search(line)), None)
        if found is not None or isinstance(error, MemoryError):
            return found or (lines[0] if lines else type(error).__name__)
        error = error.__cause__ or error.__context__
    return None


def whole_numbers(flag, words):
    """The value of a list flag as a tuple of ints >= 0, or None. Raises ValueError saying `words` for anything else."""
    items = FLAGS[flag].value
    if items is None:
        return None
    if not all(item.strip().isdecimal() for item in items):
        raise ValueError(f"{flag}={','.join(items)}: {words}")
    return tuple(int(item) for item in items)


def classes():
    """The value of --classes, as `ts.datasets.load` takes it."""
    return whole_numbers("classes", "allowed is a list of class numbers, such as 3,4")


def check_writable(flag, path):
    """Raises ValueError unless files can be made in folder `path`, or in the nearest one above it that exists."""
    folder = os.path.abspath(path)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    try:
        tempfile.TemporaryFile(dir=folder).close()  # os.access says yes to root, even where no file can be made
    except OSError:
        raise ValueError(f"{flag}={path!r}: cannot be written; allowed is a folder that can") from None


@contextlib.contextmanager
def progress():
    """Gives a function `(done, total, words)` that shows a bar on a terminal and a line now and then elsewhere."""
    from tqdm import tqdm

    if FLAGS.quiet:
        yield lambda done, total, words: _stop_if_interrupted()
        return
    terminal, start, last = sys.stderr.isatty(), time.monotonic(), -math.inf
    bar = tqdm(disable=not terminal, bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}")

    def show(done, total, words):
        nonlocal last
        _stop_if_interrupted()
        bar.total, bar.n = total, done
        bar.set_postfix_str(words)
        now = time.monotonic()
        if not terminal and (now - last >= LINE_SECONDS or done == total):
            print(f"{done}/{total} after {now - start:.0f} s: {words}", file=sys.stderr, flush=True)
            last = now

    with bar:
        yield show


def _stop_if_interrupted():
    if interrupt.received():  # while TensorFlow called back into Python, where what is raised gets lost
        raise KeyboardInterrupt


class _QuietTensorFlow(importlib.abc.MetaPathFinder):
    """Drops what TensorFlow 2.21 says of itself while it loads, whatever its log level; all else on stderr passes."""

    def find_spec(self, fullname, path, target=None):
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None:
            load = spec.loader.exec_module

            def exec_module(module):
                with banner.dropped():
                    load(module)

            spec.loader.exec_module = exec_module
        return spec


def _say(program, message):
    print(f"{program}: {' '.join(str(message).split())}", file=sys.stderr)


def _help(main, full):
    module = sys.modules[main.__module__]
    shown = [name for name in (module.__name__, "tfshape.cli.experiments", __name__) if name in sys.modules]
    listing = FLAGS.get_help() if full else "\n".join(map(FLAGS.module_help, shown))
    return f"{module.__doc__.strip()}\n{listing}"
