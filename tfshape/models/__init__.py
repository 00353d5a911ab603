"""Keras classifiers by name, and the plain training loop that the experiments share.

    model = ts.models.build("cnn", ds.input_shape, ds.num_classes, seed=0)
    ts.models.fit(model, ds.train.as_dataset(), ts.models.Recipe(epochs=5), seed=0)
    ts.models.accuracy(model, ds.test)
    ts.models.features(model)(x)

TensorFlow is imported when a model is built, not when this package is.
"""

from tfshape.models.registry import build, features, get, names, register
from tfshape.models.training import Recipe, accuracy, fit, predict

__all__ = ["Recipe", "accuracy", "build", "features", "fit", "get", "names", "predict", "register"]
