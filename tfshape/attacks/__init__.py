"""Crafting poison: one file an attack, named as in the literature.

    problem = ts.attacks.Problem(dataset, "mlp", recipe, num_poisons=300, seed=0, targets=(target,))
    poisons = ts.attacks.get("gradient_matching")(restarts=2).craft(problem)

An attack is a frozen dataclass of its options that derives from `Attack`. A class that does not derive from it, but has
`name`, `kind` and `craft`, works too. `names`, `get` and `register` are those of `tfshape.registry.Registry`; entry
points: "tfshape.attacks".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tfshape import calls, lazy
from tfshape.registry import Registry

_OWN = {
    "badnets": "backdoor:BadNets",
    "blend": "backdoor:Blend",
    "sinusoid": "backdoor:Sinusoid",
    "warp": "backdoor:Warp",
    "clean_label_backdoor": "clean_label_backdoor:CleanLabelBackdoor",
    "hidden_trigger": "hidden_trigger:HiddenTrigger",
    "sleeper_agent": "sleeper_agent:SleeperAgent",
    "adversarial_poison": "adversarial_poison:AdversarialPoison",
    "bullseye_polytope": "bullseye_polytope:BullseyePolytope",
    "convex_polytope": "convex_polytope:ConvexPolytope",
    "feature_collision": "feature_collision:FeatureCollision",
    "feature_insertion": "feature_insertion:FeatureInsertion",
    "gradient_canceling": "gradient_canceling:GradientCanceling",
    "gradient_matching": "gradient_matching:GradientMatching",
    "influence": "influence:Influence",
    "interpolation": "interpolation:Interpolation",
    "kkt": "kkt:Kkt",
    "label_flip": "label_flip:LabelFlip",
    "metapoison": "metapoison:MetaPoison",
    "slab": "slab:Slab",
    "unlearnable": "unlearnable:Unlearnable",
    "watermark": "watermark:Watermark",
}
_HELPERS = {
    "Attack": "base",
    "Problem": "base",
    "Target": "base",
    "check_target_rule": "base",
    "choose_target": "base",
    "control": "base",
    "finetune_set": "base",
    "gradient_matching": "",
    "target_rule": "",
    "training_set": "surrogates",
}
_HOMES = {**_HELPERS, **{cls: module for module, cls in (home.split(":") for home in _OWN.values())}}
REGISTRY = Registry("attack", ("name", "kind", "craft"), {name: f"{__name__}.{home}" for name, home in _OWN.items()})
names, get, register = REGISTRY.names, REGISTRY.get, REGISTRY.register

__all__ = ["get", "names", "parse", "register", *_HOMES]  # noqa: PLE0604 (they are strings)


def parse(text: str) -> Any:
    """The attack that `"name"` or `"name(option=value)"` spells. Raises ValueError for an unknown name or option."""
    return calls.build("attack", text, REGISTRY)


if TYPE_CHECKING:
    from tfshape.attacks import gradient_matching as gradient_matching
    from tfshape.attacks import target_rule as target_rule
    from tfshape.attacks.adversarial_poison import AdversarialPoison as AdversarialPoison
    from tfshape.attacks.backdoor import BadNets as BadNets
    from tfshape.attacks.backdoor import Blend as Blend
    from tfshape.attacks.backdoor import Sinusoid as Sinusoid
    from tfshape.attacks.backdoor import Warp as Warp
    from tfshape.attacks.base import Attack as Attack
    from tfshape.attacks.base import Problem as Problem
    from tfshape.attacks.base import Target as Target
    from tfshape.attacks.base import check_target_rule as check_target_rule
    from tfshape.attacks.base import choose_target as choose_target
    from tfshape.attacks.base import control as control
    from tfshape.attacks.base import finetune_set as finetune_set
    from tfshape.attacks.bullseye_polytope import BullseyePolytope as BullseyePolytope
    from tfshape.attacks.clean_label_backdoor import CleanLabelBackdoor as CleanLabelBackdoor
    from tfshape.attacks.convex_polytope import ConvexPolytope as ConvexPolytope
    from tfshape.attacks.feature_collision import FeatureCollision as FeatureCollision
    from tfshape.attacks.feature_insertion import FeatureInsertion as FeatureInsertion
    from tfshape.attacks.gradient_canceling import GradientCanceling as GradientCanceling
    from tfshape.attacks.gradient_matching import GradientMatching as GradientMatching
    from tfshape.attacks.hidden_trigger import HiddenTrigger as HiddenTrigger
    from tfshape.attacks.influence import Influence as Influence
    from tfshape.attacks.interpolation import Interpolation as Interpolation
    from tfshape.attacks.kkt import Kkt as Kkt
    from tfshape.attacks.label_flip import LabelFlip as LabelFlip
    from tfshape.attacks.metapoison import MetaPoison as MetaPoison
    from tfshape.attacks.slab import Slab as Slab
    from tfshape.attacks.sleeper_agent import SleeperAgent as SleeperAgent
    from tfshape.attacks.surrogates import training_set as training_set
    from tfshape.attacks.unlearnable import Unlearnable as Unlearnable
    from tfshape.attacks.watermark import Watermark as Watermark
else:
    __getattr__ = lazy.getter(__name__, _HOMES, {"starting_model": "tfshape.training"})
