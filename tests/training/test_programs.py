"""Trainings that share a compiled step end as if each had been compiled alone."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfshape as ts
from tfshape import models, training
from tfshape.training import fitting, looks, programs

X = np.random.default_rng(0).random((96, 6, 6, 1)).astype("float32")
Y = np.arange(96) % 3
RECIPE = training.Recipe("adam", 1e-2, batch_size=16, epochs=2)
KINDS = [
    ("mlp", None, "shuffle"),
    ("lr", "adaptive_clip()|noise(0.5)", "poisson"),
    pytest.param("mlp", "clip(1.0)|noise(1.0)", "balls_in_bins", marks=pytest.mark.slow),
]


@pytest.fixture
def compiled(monkeypatch):
    """The trainings that were compiled, as they are."""
    monkeypatch.setattr(programs, "_programs", type(programs._programs)())
    found, compile_for = [], fitting.compile_for
    monkeypatch.setattr(
        fitting,
        "compile_for",
        lambda model, *rest, **options: found.append(model) or compile_for(model, *rest, **options),
    )
    return found


def train(build, seed, shaping=None, sampling="shuffle", fit=programs.fit, data=(X, Y), callbacks=()):
    shaper = None if shaping is None else ts.shaping.parse(shaping)
    model = build(seed=seed) if callable(build) else models.build(build, (6, 6, 1), 3, seed=seed)
    wrap = functools.partial(ts.shape, shaping=shaper, batch_size=RECIPE.batch_size, seed=seed)
    if fit is training.fit:
        data = tf.data.Dataset.from_tensor_slices(data)
        training.fit(wrap(model), data, RECIPE, seed, callbacks, sampling=sampling)
    else:
        fit(model, *data, RECIPE, seed, callbacks, sampling, wrap, (shaper, sampling))
    return model.get_weights()


@pytest.mark.parametrize(("name", "shaping", "sampling"), KINDS)
def test_every_bit_is_that_of_a_training_alone(name, shaping, sampling, compiled):
    again = [train(name, seed, shaping, sampling) for seed in (1, 2, 1)]
    assert len(compiled) == 1
    alone = [train(name, seed, shaping, sampling, training.fit) for seed in (1, 2)]
    for found, expected in zip(again, [*alone, alone[0]]):
        for a, b in zip(found, expected):
            np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(*alone))


def test_other_shapers_recipes_and_frozen_layers_have_programs_of_their_own(compiled):
    def frozen(seed):
        model = models.build("lr", (6, 6, 1), 3, seed=seed)
        model.layers[-1].bias.assign([1.0, 2.0, 3.0])
        model.layers[-1].trainable = False
        return model

    start = frozen(1).get_weights()
    for expected, actual in zip(start, train(frozen, 1)):
        np.testing.assert_array_equal(actual, expected)
    changed = train("lr", 1)
    assert any((a != b).any() for a, b in zip(start, changed))
    train("lr", 1, "clip(1.0)")
    train("lr", 1, "clip(2.0)")
    train("lr", 1, data=(X[:48], Y[:48]))
    assert len(compiled) == 5 and len(programs._programs) == programs._KEPT


def test_what_draws_random_numbers_is_compiled_anew(compiled):
    def dropping(seed):
        keras.utils.set_random_seed(seed)
        layers = [keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dropout(0.5), keras.layers.Dense(3)]
        return keras.Sequential(layers)

    first, _, again = (train(dropping, seed) for seed in (1, 2, 1))
    assert len(compiled) == 3
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a, b)


def test_a_failed_training_leaves_nothing_behind(compiled):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    expected = train("lr", 1)
    with pytest.raises(KeyboardInterrupt):
        train("lr", 2, callbacks=[Stop()])
    for a, b in zip(expected, train("lr", 1)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("steps", [1, 7, 46, 64, 97])
def test_as_many_steps_at_once_as_divide_an_epoch(steps):
    class Watching(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            pass

    assert programs._at_once(steps, []) == {1: 1, 7: 7, 46: 23, 64: 32, 97: 1}[steps]
    assert programs._at_once(steps, [keras.callbacks.Callback()]) == programs._at_once(steps, [])
    assert programs._at_once(steps, [Watching()]) == 1


def test_a_shared_program_sets_no_global_seed(monkeypatch):
    # TensorFlow would prepare every function anew, at a tenth of a second and some memory a training.
    train("lr", 1)
    monkeypatch.setattr(tf.random, "set_seed", lambda seed: pytest.fail("the global seed is set"))
    train("lr", 2)


def test_examples_are_let_go_after_a_training():
    train("lr", 1)
    assert all(tf.size(variable) == 0 for feed in programs._feeds.values() for variable in feed._arrays)
    assert len(programs._feeds) <= programs._KEPT


@pytest.mark.parametrize(("name", "shaping", "sampling"), KINDS)
def test_looks_change_no_bit_and_see_the_model_as_it_trains(name, shaping, sampling):
    seen, build = [], functools.partial(models.build, name, (6, 6, 1), 3)

    def look(step, model):
        seen.append((step, model.get_weights()))

    trained = train(name, 1, shaping, sampling, fit=functools.partial(programs.fit, look=look))
    steps = len(Y) // RECIPE.batch_size * RECIPE.epochs
    assert [step for step, _ in seen] == looks.moments(steps) and seen[-1][0] == steps
    for expected, end, plain in zip(trained, seen[-1][1], train(name, 1, shaping, sampling)):
        np.testing.assert_array_equal(end, expected)
        np.testing.assert_array_equal(plain, expected)
    assert any((a != b).any() for a, b in zip(seen[0][1], trained))
    assert any((a != b).any() for a, b in zip(seen[0][1], build(seed=1).get_weights()))
