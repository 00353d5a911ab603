"""From examples to a trained model: recipes, batches, starting models, several devices, several victims at once.

    model = ts.models.build("cnn", ds.input_shape, ds.num_classes, seed=0)
    ts.training.fit(model, ds.train.as_dataset(), ts.training.Recipe(epochs=5), seed=0)

`programs` trains models of one architecture by one compiled step, `stacking` several side by side, `distribution` one
on several devices. TensorFlow is imported when a model is trained, not when this package is.
"""

from typing import TYPE_CHECKING

from tfshape import lazy
from tfshape.training import distribution, programs
from tfshape.training.fitting import OPTIMIZERS, Recipe, fit
from tfshape.training.starting import starting_model

__all__ = ["OPTIMIZERS", "Recipe", "distribution", "fit", "looks", "programs", "stacking", "starting_model"]

if TYPE_CHECKING:
    from tfshape.training import looks, stacking
else:
    __getattr__ = lazy.getter(__name__, {"looks": "", "stacking": ""})
