"""Shapers from the command line: `clip(1.0)|noise(1.0)`."""

from __future__ import annotations

import dataclasses

from tfshape import calls, checks

from .base import REGISTRY, Shaper
from .chain import Chain, dp_sgd


def parse(text: str) -> Shaper | None:
    """The shaper that `text` spells, or None for `none`.

    Shapers stand by their names, with literal arguments by position or name, joined by `|`: `clip(1.0)|noise(1.0)`,
    `normalize()|orient(0.1, reference='momentum')`. `dp_sgd(clip, noise)` stands for the first of these.
    `str(shaper)` gives the spelling back. Raises ValueError for anything else; nothing is evaluated.
    """
    checks.require("shaping", isinstance(text, str), "a string such as 'clip(1.0)|noise(1.0)', or 'none'", text)
    parts = calls.parse_chain("shaping", text)
    if parts == [("none", (), {})]:
        return None
    shapers = [_shaper(text, *part) for part in parts]
    return shapers[0] if len(shapers) == 1 else Chain(tuple(shapers))


def _shaper(text, name, args, kwargs):
    checks.choice("shaping", name, sorted({*REGISTRY, "dp_sgd"} - {"chain"}))
    fields = ["clip", "noise"] if name == "dp_sgd" else [field.name for field in dataclasses.fields(REGISTRY[name])]
    options = dict(zip(fields, args))
    wrong = [key for key in kwargs if key in options or key not in fields]
    if wrong or len(args) > len(fields):
        near = checks.did_you_mean(wrong[0], fields) if wrong and wrong[0] not in fields else ""
        raise ValueError(f"{name} takes {', '.join(fields)}, got {checks.shown(text)}{near}")
    options.update(kwargs)
    return dp_sgd(**options) if name == "dp_sgd" else REGISTRY[name].from_options(options)
