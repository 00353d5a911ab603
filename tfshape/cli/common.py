"""What every binary shares: reading flags, one-line errors, exit codes and help."""

import contextlib
import importlib.abc
import importlib.util
import math
import os
import pathlib
import signal
import sys
import tempfile
import time
import traceback

from absl import flags

from tfshape import banner

FLAGS = flags.FLAGS
LINE_SECONDS = 15
PACKAGE = str(pathlib.Path(__file__).resolve().parents[1])

_interrupts: list[int] = []

flags.DEFINE_bool("help", False, "show this binary's flags", short_name="h")
flags.DEFINE_bool("helpfull", False, "show the flags of every module")
flags.DEFINE_bool("quiet", False, "no progress bar and no messages; only results and errors")


def run(main):
    """Parses the flags, calls `main()` and exits: 0 done, 2 a value that is not allowed, 130 interrupted.

    Args:
        main: function without arguments; its module's docstring and flags are the help text. A ValueError raised
            by tfshape itself, or an OSError about a file, ends as one line on stderr; any other error, being a bug
            of ours, keeps its traceback.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # hides its banner; failures still raise
    sys.meta_path.insert(0, _QuietTensorFlow())
    program = main.__module__.rsplit(".", 1)[-1]
    signal.signal(signal.SIGINT, _interrupt)
    try:
        rest = FLAGS(sys.argv)[1:]
        if FLAGS.help or FLAGS.helpfull:
            print(_help(main, FLAGS.helpfull))
            sys.exit(0)
        if rest:
            raise flags.Error(f"{rest[0]!r}: not a flag; allowed are --name=value flags, see --help")
        main()
    except flags.Error as error:
        _fail(program, error)
    except ValueError as error:
        if not traceback.extract_tb(error.__traceback__)[-1].filename.startswith(PACKAGE):
            raise
        _fail(program, error)
    except BrokenPipeError:  # its reader has seen enough: `… --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.filename is None:
            raise
        _fail(program, f"{error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        print(f"{program}: interrupted; finished work is kept", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


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


def _interrupt(number, frame):
    _interrupts.append(number)
    raise KeyboardInterrupt


def _stop_if_interrupted():
    if _interrupts:  # while TensorFlow called back into Python, where what is raised gets lost
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


def _fail(program, message):
    print(f"{program}: {' '.join(str(message).split())}", file=sys.stderr)
    sys.exit(2)


def _help(main, full):
    module = sys.modules[main.__module__]
    shown = [name for name in (module.__name__, "tfshape.cli.experiments", __name__) if name in sys.modules]
    listing = FLAGS.get_help() if full else "\n".join(map(FLAGS.module_help, shown))
    return f"{module.__doc__.strip()}\n{listing}"
