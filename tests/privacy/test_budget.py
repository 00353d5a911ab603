"""The callback that ends training before the budget is spent."""

import keras
import numpy as np
import pytest

import tfshape as ts

pytestmark = pytest.mark.one_stack


def model_and_data(**options):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), **options)
    return model, np.zeros((100, 3), np.float32), np.zeros(100, np.int64)


def test_fit_stops_before_the_budget_is_spent():
    assert ts.privacy.Budget(6.0, 1.0, 10, 100, 1e-5, sampling="shuffle").max_steps == 10  # one epoch
    budget = ts.privacy.Budget(3.0, 3.0, 300, 2_000, 1e-3)
    model, x, y = model_and_data()
    seen = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    model.fit(x, y, batch_size=10, epochs=1, verbose=0, callbacks=[budget])
    assert budget.steps == 10 < budget.max_steps and 0 < budget.epsilon < 3.0
    model.fit(x, y, batch_size=10, epochs=budget.max_steps, verbose=0, callbacks=[budget, count])
    assert budget.steps == budget.max_steps == 10 + len(seen)
    assert 2.9 < budget.epsilon <= 3.0
    with pytest.raises(ValueError, match=r"steps must be .*the budget pays for"):
        model.fit(x, y, batch_size=10, verbose=0, callbacks=[budget])


def test_what_cannot_be_kept_is_refused():
    with pytest.raises(ValueError, match=r"epsilon must be a budget that pays for a step .*, got 0.1"):
        ts.privacy.Budget(0.1, 0.5, 100, 100, 1e-5)
    model, x, y = model_and_data(steps_per_execution=4)
    with pytest.raises(ValueError, match="steps_per_execution must be an integer from 1 to 1, got 4"):
        model.fit(x, y, verbose=0, callbacks=[ts.privacy.Budget(3.0, 2.0, 10, 2_000, 1e-3)])
