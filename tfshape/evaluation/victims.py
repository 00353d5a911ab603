"""One trial: its seeds and target, the poison, and victims trained and measured on it."""

from __future__ import annotations

import dataclasses
import functools
import math
import time

import numpy as np

from tfshape import attacks, models, poison, privacy, shaping
from tfshape.evaluation.experiment import Experiment

SAMPLING = "shuffle"  # what models.fit does


def recipe(experiment):
    """The victims' `ts.models.Recipe`."""
    fields = (field.name for field in dataclasses.fields(models.Recipe))
    return models.Recipe(**{name: getattr(experiment, name) for name in fields})


def defenses(experiment):
    """Dict of name to shaper (None for undefended), in the order of the table."""
    text = experiment.shaping or f"clip({experiment.clip})|noise({experiment.noise})"
    shaper = shaping.parse(text)
    return {"none": None} if shaper is None else {"none": None, str(shaper): shaper}


def multiplier(experiment, shaper):
    """The noise multiplier that accounts for the defended training; 0 where there is no finite epsilon.

    Clipping the mean of a microbatch bounds what one example can change by twice the clip, not once.
    """
    value = shaper.noise_multiplier or 0.0 if shaper is not None else 0.0
    grouped = experiment.num_microbatches not in (None, experiment.batch_size)
    return value / 2 if experiment.engine == "tensorflow_privacy" and grouped else value


def _spent(experiment, shaper, num_examples):
    steps = experiment.epochs * (num_examples // experiment.batch_size)
    return multiplier(experiment, shaper), experiment.batch_size, num_examples, steps, experiment.delta


def epsilon(experiment, shaper, num_examples, sampling):
    """Epsilon of one victim; inf if fine-tuning started from a model that saw the same data without privacy."""
    if experiment.scenario == "finetune" or not multiplier(experiment, shaper):
        return math.inf
    return privacy.epsilon(*_spent(experiment, shaper, num_examples), sampling=sampling)


def statement(experiment, shaper, num_examples):
    """The privacy of one victim in words."""
    if shaper is None:
        return "Trained without shaping: no differential privacy, epsilon is inf."
    words = privacy.statement(*_spent(experiment, shaper, num_examples), sampling=SAMPLING)
    if experiment.scenario == "finetune":
        return f"epsilon is inf: fine-tuning started from a model trained on the same data without privacy.\n{words}"
    return words


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all victims of one trial share."""

    experiment: Experiment
    dataset: object
    attack: object
    num_poisons: int
    trial: int

    def seed(self, purpose):
        """An integer for one purpose, from the experiment's seed and the trial's number."""
        state = np.random.SeedSequence([self.experiment.seed, self.trial, *purpose.encode()])
        return int(state.generate_state(1)[0])

    @functools.cached_property
    def initial_model(self):
        """For scenario finetune the clean model that victims start from; else None."""
        e = self.experiment
        if e.scenario != "finetune":
            return None
        model = models.build(e.model, self.dataset.input_shape, self.dataset.num_classes, seed=self.seed("initial"))
        models.fit(model, self.dataset.train.as_dataset(), recipe(e), self.seed("initial"))
        return model

    def craft(self):
        """The trial's `Poisons`, and the seconds that choosing the target and crafting took."""
        e, start = self.experiment, time.perf_counter()
        problem = attacks.Problem(
            dataset=self.dataset,
            model=e.model,
            recipe=recipe(e),
            num_poisons=self.num_poisons,
            seed=self.seed("poison"),
            surrogate_seed=e.seed,
            eps=e.eps,
            initial_model=self.initial_model,
        )
        if self.attack.kind == "targeted":
            logits = self.attack.test_logits(problem)
            target = attacks.choose_target(e.target_rule, self.dataset, self.seed("target"), logits)
            problem = dataclasses.replace(problem, targets=(target,))
        return self.attack.craft(problem), time.perf_counter() - start

    def new_victim(self):
        """An untrained victim: the same for every defense of the trial."""
        e = self.experiment
        model = models.build(e.model, self.dataset.input_shape, self.dataset.num_classes, seed=self.seed("victim"))
        if self.initial_model is not None:
            model.set_weights(self.initial_model.get_weights())
        return model


def train_and_measure(setting, name, shaper, data, poisons):
    """Trains one victim and returns its row.

    Args:
        setting: the trial's `Setting`.
        name, shaper: the defense.
        data: "poison", or "control" for the same examples without the attack.
        poisons: the trial's `Poisons`.
    """
    e, dataset = setting.experiment, setting.dataset
    training = dataset.train.as_dataset()
    if data == "poison":
        training = training.apply(poison.replace(poisons))
    elif setting.attack.kind == "targeted":
        training = training.apply(poison.replace(attacks.control(poisons, dataset)))
    model = setting.new_victim()
    start = time.perf_counter()
    models.fit(_shaped(model, e, shaper, setting.seed("victim")), training, recipe(e), setting.seed("victim"))
    seconds = time.perf_counter() - start
    size = len(dataset.train)
    row = {
        "trial": setting.trial,
        "defense": name,
        "data": data,
        "engine": e.engine if shaper is not None else None,
        "num_poisons": setting.num_poisons if data == "poison" else 0,
        "num_examples": size,
        "accuracy": models.accuracy(model, dataset.test),
        "sampling": SAMPLING,
        "delta": e.delta,
        "epsilon": epsilon(e, shaper, size, SAMPLING),
        "epsilon_if_poisson": epsilon(e, shaper, size, "poisson"),
        "seconds": seconds,
    }
    if len(poisons.target_y):
        predicted = int(models.predict(model, poisons.target_x)[0].argmax())
        row["target_index"] = poisons.config["target_index"][0]
        row["true_label"], row["intended_label"] = int(poisons.target_y[0]), int(poisons.intended_y[0])
        row["predicted_label"] = predicted
        row["success"] = predicted == row["intended_label"]
    return row


def _shaped(model, experiment, shaper, seed):
    if shaper is None or experiment.engine == "fast":
        return shaping.shape(model, shaper, seed=seed)
    options = {"num_microbatches": experiment.num_microbatches, "batch_size": experiment.batch_size}
    return shaping.tensorflow_privacy.shape(model, shaper, **options)
