"""Shapers from the command line: `clip(1.0)|noise(1.0)`."""

from __future__ import annotations

import ast
import dataclasses

from tfshape import checks

from .base import REGISTRY, Shaper
from .chain import Chain, dp_sgd


def parse(text: str) -> Shaper | None:
    """The shaper that `text` spells, or None for `none`.

    Shapers stand by their names, with literal arguments by position or name, joined by `|`: `clip(1.0)|noise(1.0)`,
    `normalize()|orient(0.1, reference='momentum')`. `dp_sgd(clip, noise)` stands for the first of these.
    `str(shaper)` gives the spelling back. Raises ValueError for anything else; nothing is evaluated.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, AttributeError, RecursionError, MemoryError):
        raise ValueError(f"shaping must look like clip(1.0)|noise(1.0) or none, got {checks.shown(text)}") from None
    if isinstance(tree, ast.Name) and tree.id == "none":
        return None
    shapers = [_shaper(node, text) for node in _parts(tree)]
    return shapers[0] if len(shapers) == 1 else Chain(tuple(shapers))


def _parts(node):
    parts = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        parts.append(node.right)
        node = node.left
    return [node, *reversed(parts)]


def _shaper(node, text):
    call = node if isinstance(node, ast.Call) else ast.Call(func=node, args=[], keywords=[])
    names = sorted({*REGISTRY, "dp_sgd"} - {"chain"})
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    if name not in names:
        near = checks.did_you_mean(name, names)
        raise ValueError(f"shaping must use {', '.join(names)}, or none, got {checks.shown(text)}{near}")
    fields = ["clip", "noise"] if name == "dp_sgd" else [field.name for field in dataclasses.fields(REGISTRY[name])]
    takes = f"{name} takes {', '.join(fields)}, got {checks.shown(text)}"
    if len(call.args) > len(fields):
        raise ValueError(takes)
    options = {}
    for key, value in [*zip(fields, call.args), *((word.arg, word.value) for word in call.keywords)]:
        if key in options or key not in fields:
            raise ValueError(f"{takes}{'' if key in fields else checks.did_you_mean(key, fields)}")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            allowed = "a plain number or word in quotes"
            raise ValueError(f"{key} of {name} must be {allowed}, got {checks.shown(text)}") from None
    return dp_sgd(**options) if name == "dp_sgd" else REGISTRY[name].from_options(options)
