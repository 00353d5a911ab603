"""Small models and data, and the artifacts by their definition, from materialised gradients."""

import keras
import numpy as np

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def dense_model(seed=0, inputs=6, outputs=3):
    layers = keras.layers
    init = [keras.initializers.GlorotUniform(seed=seed + i) for i in range(2)]
    return keras.Sequential(
        [
            keras.Input([inputs]),
            layers.Dense(5, activation="tanh", kernel_initializer=init[0], name="hidden"),
            layers.Dense(outputs, kernel_initializer=init[1], name="logits"),
        ]
    )


def conv_model(seed=0):
    layers = keras.layers
    init = [keras.initializers.GlorotUniform(seed=seed + i) for i in range(2)]
    return keras.Sequential(
        [
            keras.Input([6, 6, 2]),
            layers.Conv2D(4, 3, activation="relu", kernel_initializer=init[0], name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(3, kernel_initializer=init[1], name="logits"),
        ]
    )


def batch(rng, rows, shape=(6,), classes=3):
    return rng.normal(size=[rows, *shape]).astype("float32"), rng.integers(0, classes, rows).astype("int32")


def by_definition(gradients, marks):
    """The numbers of a row from gradients [B, P] in float64, and marks bool [B]."""
    poison, clean, update = gradients[marks].mean(0), gradients[~marks].mean(0), gradients.mean(0)
    norms = np.linalg.norm(gradients, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = gradients @ update / norms / np.linalg.norm(update)
    row = {
        "magnitude_ratio": np.linalg.norm(poison) / np.linalg.norm(clean),
        "norm_ratio": norms[marks].mean() / norms[~marks].mean(),
        "cosine": poison @ clean / np.linalg.norm(poison) / np.linalg.norm(clean),
        "share": (gradients[marks] @ update).sum() / len(marks) / (update @ update),
    }
    for name, group in (("clean", ~marks), ("poison", marks)):
        row[f"{name}_cosine"] = np.nanmean(cosines[group])
        for percent in (5, 25, 50, 75, 95):
            row[f"{name}_norm_{percent:02}"] = np.quantile(norms[group], percent / 100)
    return row
