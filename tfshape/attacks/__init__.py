"""Crafting poison: one file an attack, named as in the literature.

    problem = ts.attacks.Problem(dataset, "mlp", recipe, num_poisons=300, seed=0, targets=(target,))
    poisons = ts.attacks.get("gradient_matching")(restarts=2).craft(problem)

An attack is a frozen dataclass of its options with `name`, `kind` ("targeted" or "indiscriminate") and
`craft(problem) -> ts.poison.Poisons`.
"""

from tfshape.attacks.base import Problem, Target, check_target_rule, choose_target, control
from tfshape.attacks.gradient_matching import GradientMatching
from tfshape.attacks.label_flip import LabelFlip

__all__ = [
    "GradientMatching",
    "LabelFlip",
    "Problem",
    "Target",
    "check_target_rule",
    "choose_target",
    "control",
    "get",
    "names",
]

_ATTACKS = {attack.name: attack for attack in (GradientMatching, LabelFlip)}


def names():
    """The names that `get` knows, as a tuple."""
    return tuple(_ATTACKS)


def get(name):
    """The class of the attack of that name. Raises ValueError for an unknown one."""
    if name not in _ATTACKS:
        raise ValueError(f"attack must be one of {', '.join(_ATTACKS)}, got {name!r}")
    return _ATTACKS[name]
