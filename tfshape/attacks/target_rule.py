"""How a rule that draws targets is spelled: runner_up, random, index:N or index:N:CLASS. Needs no TensorFlow."""

from __future__ import annotations

from tfshape import checks

_DIGITS = 18  # of an index; more than any dataset has


def parse(rule: str) -> tuple:
    """Splits a rule of `ts.attacks.choose_target` into its kind and numbers.

    Raises ValueError for one that is spelled otherwise; whether the numbers fit a dataset is not known here.

    Example:
        >>> parse("index:3:7")
        ('index', 3, 7)
    """
    kind, *fixed = str(rule).split(":")
    if kind == "index" and len(fixed) in (1, 2) and all(text.isdecimal() and len(text) <= _DIGITS for text in fixed):
        return (kind, *map(int, fixed))
    allowed = ("runner_up", "random")
    words = "runner_up, random, index:N or index:N:CLASS"
    if rule not in allowed:
        raise ValueError(f"target_rule must be {words}, got {checks.shown(rule)}{checks.did_you_mean(rule, allowed)}")
    return (kind,)
