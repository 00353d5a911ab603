"""Privacy of DP-SGD training: epsilon under the sampling that was really run, and in words.

    ts.privacy.noise_for(3.0, batch_size=128, num_examples=6_000, steps=460, delta=1e-5)
    print(ts.privacy.statement(1.0, 128, 6_000, 460, 1e-5, sampling="poisson"))

Nothing here needs the rest of tfshape, nor TensorFlow unless batches are drawn or a model is audited.
"""

from typing import TYPE_CHECKING

from tfshape import lazy
from tfshape.privacy import audit, sampling
from tfshape.privacy.accounting import delta_for, epsilon, joint_noise, noise_for, steps_for
from tfshape.privacy.statements import statement
from tfshape.privacy.training import NEIGHBORS, SAMPLING, Training

__all__ = [
    "NEIGHBORS",
    "SAMPLING",
    "Budget",
    "Training",
    "audit",
    "delta_for",
    "epsilon",
    "gradient_audit",
    "input_audit",
    "joint_noise",
    "noise_for",
    "sampling",
    "statement",
    "steps_for",
]


_KERAS = {"Budget": "budget", "gradient_audit": "canaries", "input_audit": "clipbkd"}  # loaded when asked for
_MOVED = dict.fromkeys(("certified_poisons", "poisoning_bound", "poisoning_ceiling"), "tfshape.certificates")

if TYPE_CHECKING:
    from tfshape.privacy.budget import Budget
    from tfshape.privacy.canaries import gradient_audit
    from tfshape.privacy.clipbkd import input_audit
else:
    __getattr__ = lazy.getter(__name__, _KERAS, _MOVED)
