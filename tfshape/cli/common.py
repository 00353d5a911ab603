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

from tfshape import banner, checks, imports, limits
from tfshape.cli import interrupt

FLAGS = flags.FLAGS
LINE_SECONDS = 15
MOST = 1_000_000  # of any count; what is more is a slip, and would run for years
LONGEST = 900  # characters of an error
_DIGITS = 18  # of an integer in a list
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
    rest = _parse(sys.argv)
    if FLAGS.help or FLAGS.helpfull:
        print(_help(main, FLAGS.helpfull))
        return
    _check(rest)
    limits.prepare()
    if "import" in FLAGS:
        _import(FLAGS["import"].value)
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
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(1)  # what lacks memory need not end: OpenBLAS waits for a thread of its own that asks for it for ever
    if isinstance(error, OSError) and error.filename is not None:
        error = f"{error.filename}: {error.strerror}"
    elif not isinstance(error, flags.Error) and not (
        isinstance(error, ValueError) and traceback.extract_tb(error.__traceback__)[-1].filename.startswith(PACKAGE)
    ):
        return None
    _say(program, error)
    return 2


_MEMORY = re.compile(
    "MemoryError|cannot allocate memory|failed to map segment|bad_alloc|oom when|can't start new thread", re.I
)


def _short_of_memory(error):
    """The line of an error, or of what it came from, that says that there was not enough memory, or None."""
    limited = limits.address_space() is not None
    while error is not None:
        lines = str(error).splitlines()
        found = next((line.strip() for line in lines if _MEMORY.search(line)), None)
        # of C code that could not even allocate its error, in this process or in a worker
        unsaid = limited and (isinstance(error, SystemError) or "SystemError: " in str(error))
        if found is not None or unsaid or isinstance(error, MemoryError):
            return found or (lines[0] if lines else type(error).__name__)
        error = error.__cause__ or error.__context__
    return None


def bound(low, high, *names):
    """Bounds the values of number flags, from `low` to `high`; --help tells them."""
    for name in names:
        FLAGS[name].parser = type(FLAGS[name].parser)(low, high)


def integers(flag, allowed, low):
    """The value of a list flag as a tuple of ints >= `low`, or None.

    Raises ValueError, which says what is `allowed`, for anything else.
    """
    items = FLAGS[flag].value
    good = items is None or (items and all(item.strip().isdecimal() and len(item) <= _DIGITS for item in items))
    numbers = tuple(map(int, items)) if good and items else None
    checks.require(flag, good and all(number >= low for number in numbers or ()), allowed, _joined(items))
    return numbers


def shares(flag):
    """The value of a list flag as a tuple of floats from 0 to 1, or None. Raises ValueError for anything else."""
    items = FLAGS[flag].value
    if items is None:
        return None
    try:
        numbers = tuple(map(float, items))
    except ValueError:
        numbers = ()
    good = numbers and all(0 <= number <= 1 for number in numbers)
    checks.require(flag, good, "numbers from 0 to 1, such as 0.1,0.4", _joined(items))
    return numbers


def _joined(items):
    return None if items is None else ",".join(items)


def classes():
    """The value of --classes, as `ts.datasets.load` takes it."""
    numbers = integers("classes", "class numbers, such as 3,4", 0)
    good = numbers is None or len(set(numbers)) == len(numbers) >= 2
    checks.require("classes", good, "at least 2 different class numbers, such as 3,4", numbers)
    return numbers


def check_data():
    """Raises ValueError unless --dataset and --data_dir name what may be there; loads nothing."""
    name = FLAGS.dataset
    if FLAGS.data_dir is not None:
        check_folder("data_dir", FLAGS.data_dir)
    if name.startswith("npz:"):
        file = os.path.isfile(os.path.expanduser(name[4:]))
        checks.require("dataset", file, "npz: and the path of a file, tfds: and a name, or a name", name)
    else:
        from tfshape import datasets  # with NumPy, which the memory may not hold; `explained` tells

        datasets.check_name(name)


def define_import():
    """Defines --import, for a binary that takes names of attacks, shapers, defenses, models or datasets."""
    flags.DEFINE_multi_string(
        "import", [], "Python files or modules that register names of your own: my_code.py,my_package.attacks"
    )


def _import(given):
    for name in (name.strip() for text in given for name in text.split(",")):
        imports.load(name)


def check_folder(flag, path):
    """Raises ValueError unless `path` is a folder."""
    checks.require(flag, os.path.isdir(os.path.expanduser(path)), "an existing folder", path)


def check_writable(flag, path):
    """Raises ValueError unless files can be made in folder `path`, or in the nearest one above it that exists."""
    _require_writable(flag, path, path, "a writable folder, or a new one in such a folder")


def check_writable_file(flag, path):
    """Raises ValueError unless a file can be made at `path`, or the one that is there be replaced."""
    allowed = "the path of a file in a writable folder"
    file = os.path.basename(path) and (os.path.isfile(path) or not os.path.lexists(path))
    checks.require(flag, file, allowed, path)
    _require_writable(flag, path, os.path.dirname(path), allowed)


def _require_writable(flag, path, folder, allowed):
    folder = os.path.abspath(folder)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    try:
        for part in pathlib.Path(path).parts:  # none may be longer than the file system allows
            with contextlib.suppress(FileNotFoundError):
                os.lstat(os.path.join(folder, part))
        tempfile.TemporaryFile(dir=folder).close()  # os.access says yes to root, even where no file can be made
    except OSError:
        checks.fail(flag, allowed, path)


def say(text, file=None):
    """Prints `text`, in which control characters, such as of a file's name or of a stored error, are escaped."""
    print("\n".join(map(checks.escaped, str(text).split("\n"))), file=file)


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
        words = checks.escaped(words)
        bar.total, bar.n = total, done
        bar.set_postfix_str(words)
        now = time.monotonic()
        if not terminal and (now - last >= LINE_SECONDS or done == total):
            print(f"{done}/{total} after {now - start:.0f} s: {words}", file=sys.stderr, flush=True)
            last = now

    with bar:
        yield show


@contextlib.contextmanager
def failures(program):
    """Ends `program` with exit code 1, and what went wrong on stderr, if trials fail in processes of their own."""
    from tfshape import studies

    try:
        yield
    except studies.Failed as error:
        short = _short_of_memory(error)
        say(f"{program}: {f'out of memory: {short}' if short else error}", sys.stderr)
        sys.exit(1)


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
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module):
                with banner.dropped():
                    load(module)

            vars(spec.loader)["exec_module"] = exec_module
        return spec


def _parse(argv):
    """Sets the flags from `argv`; returns what is no flag of ours. Raises ValueError or flags.Error for bad values."""
    try:
        return FLAGS(argv, known_only=True)[1:]  # absl itself takes minutes to find what a long unknown name is like
    except flags.IllegalFlagValueError as error:
        _refuse(error)
    except (flags.CantOpenFlagFileError, UnicodeDecodeError):
        given = next(text for text in argv if text.lstrip("-").startswith("flagfile"))
        checks.fail("flagfile", "a readable text file with one flag in each line", given)
    except ValueError as error:  # --noquiet=1
        raise flags.Error(error) from None


def _refuse(error):
    """Raises ValueError in our form for the value that absl refuses with `error`."""
    name = str(error).partition("=")[0][len("flag --") :]
    value = str(error)[len(f"flag --{name}=") : -len(f": {error.__context__}")]
    parser = FLAGS[name].parser
    low, high = (getattr(parser, bound, None) for bound in ("lower_bound", "upper_bound"))
    with contextlib.suppress(ValueError):
        value = parser.convert(value) if hasattr(parser, "convert") else value
    if FLAGS[name].boolean:
        checks.fail(name, "true or false", value)
    elif isinstance(parser, flags.EnumParser):
        checks.choice(name, value, parser.enum_values)
    elif isinstance(parser, flags.IntegerParser):
        checks.integer(name, value, low, high)
    elif isinstance(parser, flags.FloatParser):
        checks.real(name, value, -math.inf if low is None else low, math.inf if high is None else high)
    checks.fail(name, "values with commas between", value)


def _check(rest):
    """Raises for arguments that are no flags, and for values that no flag can have."""
    if rest:
        name = rest[0].lstrip("-").split("=")[0]
        if name and rest[0].startswith("-"):
            raise flags.Error(f"unknown flag {checks.shown(f'--{name}')}{checks.did_you_mean(name, FLAGS)}")
        raise flags.Error(f"arguments must be flags such as --quiet or --seed=1, got {checks.shown(rest[0])}")
    for name in (name for name in FLAGS if FLAGS[name].present):
        value = FLAGS[name].value
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                checks.require(name, "\0" not in text, "without null characters", text)
        checks.require(name, not isinstance(value, str) or value.strip(), "non-empty", value)


def _say(program, message):
    text = checks.escaped(" ".join(str(message).split()))
    print(f"{program}: {text if len(text) <= LONGEST else f'{text[:LONGEST]}…'}", file=sys.stderr)


def _help(main, full):
    module = sys.modules[main.__module__]
    shown = [name for name in (module.__name__, "tfshape.cli.experiments", __name__) if name in sys.modules]
    listing = FLAGS.get_help() if full else "\n".join(map(FLAGS.module_help, shown))
    return f"{(module.__doc__ or '').strip()}\n{listing}"
