"""What tests of --import copy into a file of a user's: an attack, a shaper, a defense, a model and a dataset."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

import tfshape as ts


@ts.attacks.register
@dataclasses.dataclass(frozen=True)
class OwnAttack:
    label: int = 0

    name = "own_attack"
    kind = "indiscriminate"

    def craft(self, problem):
        train, rows = problem.dataset.train, np.arange(problem.num_poisons)
        labels = np.full(len(rows), self.label)
        return ts.poison.Poisons(x=train.x[rows], y=labels, base=rows, num_examples=len(train), attack=self.name)


@ts.shaping.register
@dataclasses.dataclass(frozen=True)
class Soften(ts.shaping.Shaper):
    clip: float = 1.0

    spelling = "soften"

    def weigh(self, examples, state):
        return self.clip / tf.sqrt(self.clip**2 + examples.norms**2)

    def bound(self, previous, state=None):
        return min(previous, self.clip)


@ts.defenses.register
@dataclasses.dataclass(frozen=True)
class FirstHalf(ts.defenses.NoDefense):
    name = "first_half"


@ts.models.register
def own_model(input_shape, num_classes, seed):
    init = keras.initializers.GlorotUniform(seed)
    dense = keras.layers.Dense(num_classes, kernel_initializer=init)
    return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(name="features"), dense])


@ts.datasets.register
def own_data(size=60):
    y = np.arange(2 * size) % 3
    x = np.random.default_rng(0).random((2 * size, 4)) * (1 + y[:, None]) / 3
    train, test = ts.datasets.Split(x[:size], y[:size]), ts.datasets.Split(x[size:], y[size:])
    return ts.datasets.Dataset("own", train, test, num_classes=3, input_shape=(4,))
