"""Reads `name(1.0, key="value")` from a flag without evaluating it: how flags name attacks, shapers and transforms."""

import ast
import inspect
import warnings

from tfshape import checks

LONGEST = 10_000  # characters of a text that is read
_SPELLING = "a name or a call of literal values, such as name or name(1.0, key='value')"


def parse(argument, text):
    """Splits one call of literals into its parts.

    Args:
        argument: name of the flag or argument that `text` came from, for messages.
        text: `"name"`, `"name()"` or `"name(1, key=2.0)"`; arguments are Python literals.

    Returns:
        `(name, args, kwargs)`: a string, a tuple and a dict.

    Raises:
        ValueError: if `text` is anything else.
    """
    return _call(argument, text, _tree(argument, text))


def parse_chain(argument, text):
    """Splits several calls that `|` joins, such as `"clip(1.0)|noise(1.0)"`: a list of what `parse` gives for each."""
    node, nodes = _tree(argument, text), []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        nodes.append(node.right)
        node = node.left
    return [_call(argument, text, part) for part in [node, *reversed(nodes)]]


def _tree(argument, text):
    check_length(argument, text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes, which Python prints to stderr
            return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        checks.fail(argument, _SPELLING, text)


def _call(argument, text, node):
    try:
        call = node if isinstance(node, ast.Call) else ast.Call(func=node, args=[], keywords=[])
        if not isinstance(call.func, ast.Name) or any(keyword.arg is None for keyword in call.keywords):
            raise ValueError
        args = tuple(ast.literal_eval(arg) for arg in call.args)
        kwargs = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        checks.fail(argument, _SPELLING, text)
    return call.func.id, args, kwargs


def build(argument, text, choices):
    """Calls the entry of `choices` that `text` names: `build("transform", "flip(rate=0.1)", {"flip": flip})`.

    Args:
        argument: name of the flag or argument that `text` came from, for messages.
        text: one call, as `parse` reads it.
        choices: dict of name to callable.

    Raises:
        ValueError: if the name is not in `choices` or the callable does not take the arguments or their values.
    """
    name, args, kwargs = parse(argument, text)
    function = choices[checks.choice(argument, name, sorted(choices))]
    parameters = inspect.signature(function).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        for key in kwargs:
            checks.choice(f"option of {argument} {name}", key, parameters)
    try:
        return function(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{argument}={checks.shown(text)}: {error}") from None


def split(argument, text):
    """The parts of `text`, a list, between the commas that stand in no parentheses.

    Args:
        argument: name of the flag or argument that `text` came from, for messages.
        text: such as `"none, clip(1)|noise(0.1), knn(k=5, rate=0.1)"`.

    Raises:
        ValueError: if a part is empty.
    """
    check_length(argument, text)
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    checks.require(argument, all(part.strip() for part in parts), "values with commas between", text)
    return [part.strip() for part in parts]


def check_length(argument, text):
    """Raises ValueError for a text that is longer than anyone types, which Python's parser would take minutes over."""
    checks.require(argument, len(text) <= LONGEST, f"at most {LONGEST} characters long", text)
