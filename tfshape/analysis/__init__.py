"""Gradient artifacts: what poison does to gradients while a model trains, seen without materialising any.

watch = ts.analysis.GradientArtifacts((x, y, is_poison), every="epoch", csv_path="artifacts.csv")
model.fit(x, y, callbacks=[watch])          # any Keras model, shaped or not
watch.history["magnitude_ratio"], watch.history["cosine"]

watch = ts.analysis.GradientArtifacts((x, y), trusted=trusted)     # which are poison is not known
model.fit(x, y, callbacks=[watch])
print(watch.alarm)

scores = ts.analysis.influence(model, checkpoints, x, y, target_x, wrong_label)   # TracIn
"""

from typing import TYPE_CHECKING

from tfshape import lazy
from tfshape.analysis.alarm import Alarm, smoke_alarm
from tfshape.analysis.callback import GradientArtifacts
from tfshape.analysis.measures import artifacts
from tfshape.analysis.tracing import influence, precision_at

__all__ = ["Alarm", "GradientArtifacts", "artifacts", "figures", "influence", "precision_at", "smoke_alarm"]

if TYPE_CHECKING:
    from tfshape.analysis import figures
else:
    __getattr__ = lazy.getter(__name__, {"figures": ""})
