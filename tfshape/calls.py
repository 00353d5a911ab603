"""Reads `name(1.0, key="value")` from a flag without evaluating it: how flags name attacks, shapers and transforms."""

import ast


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
    try:
        node = ast.parse(text.strip(), mode="eval").body
        call = node if isinstance(node, ast.Call) else ast.Call(func=node, args=[], keywords=[])
        if not isinstance(call.func, ast.Name) or any(keyword.arg is None for keyword in call.keywords):
            raise ValueError
        args = tuple(ast.literal_eval(arg) for arg in call.args)
        kwargs = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise ValueError(
            f"{argument}={text!r}: allowed is name or name(1.0, key='value') with literal values"
        ) from None
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
    if name not in choices:
        raise ValueError(f"{argument}={text!r}: unknown name {name!r}; allowed are {', '.join(sorted(choices))}")
    try:
        return choices[name](*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{argument}={text!r}: {error}") from None


def split(argument, text):
    """The parts of `text`, a list, between the commas that stand in no parentheses.

    Args:
        argument: name of the flag or argument that `text` came from, for messages.
        text: such as `"none, clip(1)|noise(0.1), knn(k=5, rate=0.1)"`.

    Raises:
        ValueError: if a part is empty.
    """
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    if not all(part.strip() for part in parts):
        raise ValueError(f"{argument}={text!r}: allowed is values with commas between")
    return [part.strip() for part in parts]
