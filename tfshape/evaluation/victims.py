"""One trial: its seeds and target, the poison, and victims trained and measured on it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import secrets
import time
import zlib
from typing import Any

import numpy as np

from tfshape import attacks, checks, datasets, graphs, models, seeds, shaping, training
from tfshape.evaluation import accounting
from tfshape.evaluation.experiment import Experiment
from tfshape.evaluation.records import VictimRecord
from tfshape.training import distribution, programs


def initial_recipe(experiment):
    """How the clean models train which finetune and transfer go on from, a `ts.training.Recipe`."""
    fields = (field.name for field in dataclasses.fields(training.Recipe))
    return training.Recipe(**{name: getattr(experiment, name) for name in fields})


def recipe(experiment):
    """The victims' `ts.training.Recipe`."""
    found = {name: getattr(experiment, f"finetune_{name}") for name in ("learning_rate", "batch_size", "epochs")}
    given = {name: value for name, value in found.items() if value is not None}
    try:
        return dataclasses.replace(initial_recipe(experiment), **given)
    except ValueError as error:
        raise ValueError(f"finetune_{error}" if given else str(error)) from None


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all victims of one trial share; `initial_weights` are those of `initial_model` if it was trained before."""

    experiment: Experiment
    dataset: datasets.Dataset
    attack: Any
    trial: int
    initial_weights: list | None = None

    def seed(self, purpose):
        """An integer for one purpose, from the experiment's seed and the trial's number."""
        return seeds.derive(self.experiment.seed, self.trial, purpose)

    @functools.cached_property
    def initial_model(self):
        """For finetune and transfer the clean model that victims start from; else None."""
        e = self.experiment
        if e.scenario == "scratch":
            return None
        model = models.build(e.model, self.dataset.input_shape, self.dataset.num_classes, seed=self.seed("initial"))
        if self.initial_weights is not None:
            model.set_weights(self.initial_weights)
            return model
        train = self.dataset.train
        programs.fit(model, train.x, train.y, initial_recipe(e), self.seed("initial"))
        return model

    @functools.cached_property
    def rows(self):
        """The training examples that victims train on, int [M]."""
        if self.experiment.finetune_examples is None:
            return np.arange(len(self.dataset.train))
        return attacks.finetune_set(self.dataset, self.experiment.finetune_examples, self.seed("finetune"))

    @functools.cached_property
    def _target(self):
        problem = self._problem(1, None, (), self._known_model)
        logits = self.attack.test_logits(problem)
        return attacks.choose_target(self.experiment.target_rule, self.dataset, self.seed("target"), logits)

    def check(self, num_poisons):
        """Raises ValueError for what the attack or its `Problem` does not allow; trains nothing."""
        e = self.experiment
        stand_in = None
        if e.knowledge == "white_box":
            stand_in = models.build(e.model, self.dataset.input_shape, self.dataset.num_classes)
        problem = self._problem(num_poisons, None, (), stand_in)
        if hasattr(self.attack, "check"):
            self.attack.check(problem)

    def problem(self, num_poisons, shaper=None):
        """What the attacker is given; `shaper` for one who adapts to it."""
        targets = (self._target,) if self.attack.kind == "targeted" else ()
        return self._problem(num_poisons, shaper, targets, self._known_model)

    @functools.cached_property
    def _known_model(self):
        """What victims start from, if the attacker has it."""
        return (self.initial_model or self.new_victim()) if self.experiment.knowledge == "white_box" else None

    def _problem(self, num_poisons, shaper, targets, initial_model):
        e = self.experiment
        later = e.scenario != "scratch"
        return attacks.Problem(
            dataset=self.dataset,
            model=e.model,
            recipe=recipe(e),
            num_poisons=num_poisons,
            seed=self.seed("poison"),
            surrogate_seed=e.seed,
            eps=e.eps,
            targets=targets,
            scenario=e.scenario,
            knowledge=e.knowledge,
            surrogate_model=e.surrogate_model,
            initial_model=initial_model,
            initial_recipe=initial_recipe(e) if later else None,
            finetune_indices=self.rows if e.finetune_examples is not None else None,
            shaping=shaper,
        )

    def craft(self, num_poisons, shaper=None):
        """The trial's `Poisons`, and the seconds that choosing the target and crafting took."""
        start = time.perf_counter()
        with graphs.collectable():
            return self.attack.craft(self.problem(num_poisons, shaper)), time.perf_counter() - start

    def aims(self, poisons, most=None):
        """What victims shall get wrong: x [n, ...], their classes [n] and the intended ones [n]; n may be 0.

        Those of the targets; of a backdoor, test examples of other classes with the trigger on, at most `most`.
        """
        if self.attack.kind != "backdoor":
            return poisons.target_x, poisons.target_y, poisons.intended_y
        label, test = self.attack.target_class, self.dataset.test
        chosen = np.flatnonzero(test.y != label)[:most]
        stamped = self.attack.stamp(test.x[chosen], self.problem(len(poisons.y)))
        return stamped, test.y[chosen], np.full(len(chosen), label)

    def new_victim(self):
        """An untrained victim: the same for every defense of the trial."""
        e = self.experiment
        weights = None if self.initial_model is None else self.initial_model.get_weights()
        return training.starting_model(e.scenario, e.model, self.dataset, self.seed("victim"), weights)

    def examples(self, data, poisons):
        """What a victim trains on: x [N, ...], y [N] and is_poison [N], for "control" the same without the attack."""
        if data == "control" and self.attack.kind == "targeted":
            poisons = attacks.control(poisons, self.dataset)
        elif data == "control":
            poisons = None
        train = self.dataset.train
        if poisons is None:
            x, y, marks = train.x, train.y, np.zeros(len(train), bool)
        else:
            x, y, marks = poisons.put_into(train.x, train.y)
        rows = np.concatenate([self.rows, np.arange(len(train), len(y))])
        return x[rows], y[rows], marks[rows]


def train_and_measure(setting, choice, data, poisons, known=None, examples=None):
    """Trains one victim and returns its row, a `VictimRecord` as a dict.

    Args:
        setting: the trial's `Setting`.
        choice: the defense, a `Choice`.
        data: "poison"; "adaptive", poison crafted against this defense; or "control", the same without the attack.
        poisons: the trial's `Poisons`.
        known: a dict in which the trial's calls keep their last victims: one whose defense and examples are the same,
            as clean-label controls are for all numbers of poisons, is not trained again.
        examples: what `setting.examples(data, poisons)` gives, if it is at hand.
    """
    e, dataset, shaper = setting.experiment, setting.dataset, choice.shaper
    x, y, is_poison = examples or setting.examples(data, poisons)
    known = {} if known is None else known
    aimed, labels, intended = setting.aims(poisons)
    place, digest = (choice.name, data == "control"), _digest(x, y)
    if place not in known or known[place][0] != digest:
        start = time.perf_counter()
        aims = (aimed, intended) if looked_at(setting, choice, data) else None
        trained = _train(setting, choice, x, y, aims)
        known[place] = digest, trained, time.perf_counter() - start
    (predict, kept, certificate, checkpoints), seconds = known[place][1:]
    right = predict(dataset.test.x).argmax(axis=1) == dataset.test.y
    scheme = accounting.sampling(e, shaper)
    found: dict[str, Any] = {"checkpoints": checkpoints}
    if e.poisons is not None:  # the experiment's own attack crafted none of it
        found["attack"] = poisons.attack or "foreign"
    if kept is not None:
        dropped = ~kept
        found.update(dropped=int(dropped.sum()), dropped_poison=int((dropped & is_poison).sum()))
        found["poison"] = int(is_poison.sum())
    if certificate is not None:
        withstood = certificate(dataset.test.x, dataset.test.y)
        found["certified_accuracy"] = float((withstood >= _changes(poisons, dataset)).mean())
    if len(intended):
        answers = predict(aimed).argmax(axis=1)
        if setting.attack.kind != "backdoor":
            found["target_index"] = poisons.config.get("target_index", [None])[0]
            found["true_label"], found["intended_label"] = int(labels[0]), int(intended[0])
            found["predicted_label"] = int(answers[0])
        found["success"] = _success(setting, answers, intended)
    record = VictimRecord(
        trial=setting.trial,
        defense=choice.name,
        data=data,
        engine=e.engine if shaper is not None else None,
        num_poisons=len(poisons.y),
        inserted=bool((poisons.base < 0).any()),
        num_examples=len(y),
        accuracy=float(right.mean()),
        class_accuracy=[_share(right[dataset.test.y == label]) for label in range(dataset.num_classes)],
        sampling=scheme,
        delta=e.delta,
        epsilon=accounting.epsilon(e, shaper, len(y), scheme),
        epsilon_if_poisson=accounting.epsilon(e, shaper, len(y), "poisson"),
        seconds=seconds,
        **found,
    )
    return record.to_dict()


def _success(setting, answers, intended):
    """Whether victims do what the attacker wants, or of a backdoor on which share of the inputs; None without any."""
    if not len(intended):
        return None
    obeyed = answers == intended
    return float(obeyed.mean()) if setting.attack.kind == "backdoor" else bool(obeyed.all())


def looked_at(setting, choice, data):
    """Whether a victim is looked at through its training: an undefended one, to which `frontier` compares defenses."""
    undefended = choice.shaper is None and choice.sanitiser is None
    return undefended and (data == "poison" or setting.attack.kind == "indiscriminate")


def looks(setting, aims):
    """-> (a list to be filled, a function of a step and a model that adds [step, accuracy, success] to it).

    aims: what the victim shall get wrong, and the intended classes.
    """
    found: list = []
    test, (aimed, intended) = setting.dataset.test, aims

    def look(step, model):
        right = models.predict(model, test.x).argmax(axis=1) == test.y
        answers = models.predict(model, aimed).argmax(axis=1) if len(intended) else None
        found.append([step, float(right.mean()), _success(setting, answers, intended)])

    return found, look


def _share(right):
    """The mean of booleans, or None if there are none."""
    return float(right.mean()) if right.size else None


def remember(known, choice, data, x, y, trained, seconds):
    """Keeps in `known` a victim for `train_and_measure` to find: of this defense, data and examples; `trained` is
    (predict, kept, certificate) as `ts.defenses.Trained` has them, and its checkpoints, all but the first perhaps
    None."""
    known[choice.name, data == "control"] = _digest(x, y), trained, seconds


def _digest(x, y):
    found = hashlib.sha256(np.ascontiguousarray(x).data.cast("B"))
    found.update(np.ascontiguousarray(y).data.cast("B"))
    return found.digest()


def _changes(poisons, dataset):
    """How many insertions, removals and new labels the poison amounts to; to replace an input is to do two of these."""
    inserted = poisons.base < 0
    axes = tuple(range(1, poisons.x.ndim))
    moved = (poisons.x != dataset.train.x[np.where(inserted, 0, poisons.base)]).any(axis=axes)
    return int(np.where(inserted | ~moved, 1, 2).sum())


def _train(setting, choice, x, y, aims):
    """-> (predict, kept, certificate, checkpoints), as `remember` has them; checkpoints with `aims`, as in `looks`."""
    if choice.sanitiser is not None:
        e, seed = setting.experiment, setting.seed("victim")
        trained = choice.sanitiser.train(setting.new_victim, x, y, setting.dataset.num_classes, recipe(e), seed)
        return trained.predict, trained.kept, trained.certificate, None
    model = setting.new_victim()
    checkpoints, look = (None, None) if aims is None else looks(setting, aims)
    train(setting, choice.shaper, model, x, y, look=look)
    return functools.partial(models.predict, model), None, None, checkpoints or None


def train(setting, shaper, model, x, y, callbacks=(), look=None):
    """Trains a victim in place, on x [N, ...] and y [N], shaped by `shaper`; None: undefended.

    model: as `setting.new_victim()` gives it. callbacks: `keras.callbacks.Callback`s. look: as in `programs.fit`; it is
    not called where several devices train a victim.
    """
    e, seed = setting.experiment, setting.seed("victim")
    scheme = accounting.sampling(e, shaper)
    # nothing is private whose batches can be drawn again
    hidden = e.secure_noise and shaper is not None
    order = distribution.from_leader(e.distribute, secrets.randbits(32)) if hidden else seed
    found = distribution.strategy(e.distribute)
    if found is None:
        wrap = functools.partial(_shaped, setting=setting, shaper=shaper, seed=seed, scheme=scheme)
        if callbacks or e.engine != "fast":  # these may keep the model, or hold a state of their own
            if look is not None:
                plan = recipe(e)
                steps = len(y) // plan.batch_size * plan.epochs
                callbacks = [*callbacks, training.looks.Looks(model, steps, 1, look)]
            training.fit(wrap(model), datasets.Split(x, y).as_dataset(), recipe(e), order, callbacks, sampling=scheme)
        else:
            kind = shaper, scheme, hidden
            programs.fit(model, x, y, recipe(e), order, sampling=scheme, wrap=wrap, kind=kind, look=look)
        return
    digest = zlib.crc32(_digest(x, y))
    words = "processes that craft the same poison; these do not, so give them one by poisons"
    checks.require("distribute", distribution.from_leader(e.distribute, digest) == digest, words, e.distribute)
    with found.scope():
        twin = setting.new_victim()
        twin.set_weights(model.get_weights())
        shaped = _shaped(twin, setting, shaper, seed, scheme)
        sampler = distribution.sampler(found, scheme)
        training.fit(shaped, datasets.Split(x, y).as_dataset(), recipe(e), order, callbacks, sampling=sampler)
    model.set_weights(twin.get_weights())


def _shaped(model, setting, shaper, seed, scheme):
    experiment = setting.experiment
    if shaper is None or experiment.engine == "fast":
        batch_size = None if scheme == "shuffle" else recipe(experiment).batch_size
        options = {"seed": seed}
        if experiment.secure_noise and shaper is not None:
            options = {"secure_noise": True}
        return shaping.shape(model, shaper, batch_size=batch_size, **options)
    options = {"num_microbatches": experiment.num_microbatches, "batch_size": recipe(experiment).batch_size}
    return shaping.tensorflow_privacy.shape(model, shaper, **options)
