"""Filters and augmentation to compare gradient shaping with: one file a family, named as in the literature.

    defense = ts.defenses.parse("spectral_signatures(rate=0.01)")
    trained = defense.train(build, x, y, num_classes=10, recipe=recipe, seed=0)
    trained.predict(x_test).argmax(axis=1), trained.kept, trained.certificate

A defense is a frozen dataclass of its options with `name` and `train`; `str(defense)` spells it back. `names`, `get`
and `register` are those of `tfshape.registry.Registry`; entry points: "tfshape.defenses".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tfshape import calls, lazy
from tfshape.defenses.activation_clustering import ActivationClustering
from tfshape.defenses.base import Defense, Filter, Trained
from tfshape.defenses.epic import Epic
from tfshape.defenses.mixing import CutMix, Mixup
from tfshape.defenses.sanitization import Knn, Loss, NoDefense, Slab, Sphere
from tfshape.defenses.spectral_signatures import SpectralSignatures
from tfshape.registry import Registry

__all__ = [
    "ActivationClustering",
    "CutMix",
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
    "choices",
    "get",
    "names",
    "parse",
    "register",
]

_OWN = (
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
)
_CERTIFIED = {"deep_partition_aggregation": "tfshape.certificates:DeepPartitionAggregation"}  # a room above
REGISTRY = Registry("defense", ("name", "train"), {**{one.name: one for one in _OWN}, **_CERTIFIED})
names, get, register = REGISTRY.names, REGISTRY.get, REGISTRY.register


def parse(text: str) -> Any:
    """The defense that `text` spells: `"none"`, `"spectral_signatures(rate=0.05)"`.

    Raises ValueError for an unknown name, option or value; nothing is evaluated.
    """
    return calls.build("defense", text, REGISTRY)


if TYPE_CHECKING:
    from tfshape.defenses import choices
else:
    _MOVED = {"DeepPartitionAggregation": "tfshape.certificates"}
    __getattr__ = lazy.getter(__name__, {"choices": ""}, _MOVED)
