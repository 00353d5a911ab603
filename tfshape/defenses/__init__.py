"""Sanitisers and ensembles to compare gradient shaping with: one file a family, named as in the literature.

    defense = ts.defenses.parse("spectral_signatures(rate=0.01)")
    trained = defense.train(build, x, y, num_classes=10, recipe=recipe, seed=0)
    trained.predict(x_test).argmax(axis=1), trained.kept, trained.certificate

A defense is a frozen dataclass of its options with `name` and `train`; `str(defense)` spells it back.
"""

from __future__ import annotations

from typing import Any

from tfshape import calls, checks, plugins
from tfshape.defenses.activation_clustering import ActivationClustering
from tfshape.defenses.base import Defense, Filter, Trained
from tfshape.defenses.deep_partition_aggregation import DeepPartitionAggregation
from tfshape.defenses.epic import Epic
from tfshape.defenses.mixing import CutMix, Mixup
from tfshape.defenses.sanitization import Knn, Loss, NoDefense, Slab, Sphere
from tfshape.defenses.spectral_signatures import SpectralSignatures

__all__ = [
    "ActivationClustering",
    "CutMix",
    "DeepPartitionAggregation",
    "Defense",
    "Epic",
    "Filter",
    "Knn",
    "Loss",
    "Mixup",
    "NoDefense",
    "Slab",
    "SpectralSignatures",
    "Sphere",
    "Trained",
    "get",
    "names",
    "parse",
    "register",
]

_DEFENSES = plugins.Registry("defense", "tfshape.defenses", ("name", "train"))
for _defense in (
    NoDefense,
    Sphere,
    Slab,
    Knn,
    Loss,
    SpectralSignatures,
    ActivationClustering,
    Epic,
    Mixup,
    CutMix,
    DeepPartitionAggregation,
):
    _DEFENSES.register(_defense)


def names() -> tuple[str, ...]:
    """The names that `get` knows, as a tuple."""
    return tuple(_DEFENSES)


def get(name: str) -> Any:
    """The class of the defense of that name. Raises ValueError for an unknown one."""
    return _DEFENSES[checks.choice("defense", name, _DEFENSES)]


def register(cls: Any) -> Any:
    """Adds a defense to the names that `get` and the flags know; a decorator of its class.

    An installed package's entry point in the group "tfshape.defenses" does the same. Raises ValueError for a class
    without `name` or `train`, and for a name that another defense has.
    """
    return _DEFENSES.register(cls)


def parse(text: str) -> Any:
    """The defense that `text` spells: `"none"`, `"spectral_signatures(rate=0.05)"`.

    Raises ValueError for an unknown name, option or value; nothing is evaluated.
    """
    return calls.build("defense", text, _DEFENSES)
