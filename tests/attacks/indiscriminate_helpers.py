"""Small problems for the indiscriminate attacks, and what a victim makes of their poison."""

import dataclasses
import functools

import numpy as np

import tfshape as ts


def make_blobs(shape=(40,), classes=4):
    """Overlapping clouds of 300 training and 200 test examples, on which a small model is right 19 times of 20."""
    generator = np.random.default_rng(0)
    centers = generator.uniform(0.3, 0.7, (classes, *shape))

    def split(size):
        y = np.arange(size, dtype=np.int32) % classes
        x = centers[y] + 0.2 * generator.normal(size=(size, *shape))
        return ts.datasets.Split(np.clip(x, 0, 1).astype(np.float32), y)

    return ts.datasets.Dataset("blobs", split(300), split(200), classes, shape)


@functools.cache
def dresses_and_coats():
    """Classes 3 and 4 of the embedded Fashion-MNIST, on which logistic regression is right 19 times of 20."""
    return ts.datasets.load("fashion_mnist_mini", classes=(3, 4))


def make_problem(dataset, model, recipe, num_poisons, seed=0, **changes):
    return ts.attacks.Problem(dataset, model, recipe, num_poisons, seed, **changes)


def accuracy(problem, poisons, seed=100):
    """The test accuracy of a victim trained with the poison in its data; None for the clean data."""
    dataset, data = problem.dataset, problem.dataset.train.as_dataset()
    if poisons is not None:
        put = ts.poison.insert if (poisons.base < 0).any() else ts.poison.replace
        data = data.apply(put(poisons))
    model = ts.models.build(problem.model, dataset.input_shape, dataset.num_classes, seed=seed)
    ts.training.fit(model, data, problem.recipe, seed)
    return ts.models.accuracy(model, dataset.test)


def flips_of_as_many(problem, poisons):
    """A control for inserted poison: as many random training examples with another label."""
    train, generator = problem.dataset.train, np.random.default_rng(0)
    rows = generator.choice(len(train), len(poisons), replace=False)
    y = (train.y[rows] + 1) % problem.dataset.num_classes
    return dataclasses.replace(poisons, x=train.x[rows], y=y)


def random_inputs(poisons):
    """A control for inserted poison: the same labels on random inputs."""
    return dataclasses.replace(poisons, x=np.random.default_rng(0).random(poisons.x.shape, np.float32))


def random_perturbation(problem, poisons):
    """A control for perturbed poison: as large a perturbation, its signs random."""
    clean = problem.dataset.train.x[poisons.base]
    noise = np.random.default_rng(0).choice([-problem.eps, problem.eps], clean.shape)
    return dataclasses.replace(poisons, x=np.clip(clean + noise, 0, 1).astype(np.float32))


def same(first, second):
    """Whether two `Poisons` are equal in x, y and base."""
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("x", "y", "base"))
