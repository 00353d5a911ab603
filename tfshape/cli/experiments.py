"""Flags that describe an experiment, which several binaries share."""

import glob
import os

from absl import flags

from tfshape import attacks, calls, checks, datasets, models, training
from tfshape.attacks import target_rule
from tfshape.cli import common
from tfshape.evaluation.experiment import (
    DISTRIBUTE,
    ENGINES,
    KNOWLEDGE,
    SAMPLING,
    SCENARIOS,
    Experiment,
    require_engine,
)

FLAGS = flags.FLAGS

common.define_import()
flags.DEFINE_string(
    "attack",
    Experiment.attack,
    f"attack, with options if need be: 'gradient_matching(restarts=2)'; one of {', '.join(attacks.names())}",
)
flags.DEFINE_string("poisons", None, "folder of saved poisons to evaluate, one a trial, instead of crafting")
flags.DEFINE_string("dataset", Experiment.dataset, f"dataset: {', '.join(datasets.names())}, tfds:<name> or npz:<path>")
flags.DEFINE_string("data_dir", None, "folder that holds the dataset (idx.gz, npz or tfds layout)")
flags.DEFINE_list("classes", None, "keep and relabel only these classes: 3,4")
flags.DEFINE_string("model", Experiment.model, "victim: lr, mlp, cnn, small_cnn or resnet20")
flags.DEFINE_string("scenario", Experiment.scenario, f"how victims start: {', '.join(SCENARIOS)}")
flags.DEFINE_string("knowledge", None, f"what the attacker has: {', '.join(KNOWLEDGE)}; default by scenario")
flags.DEFINE_string("surrogate_model", None, "black_box: the architecture of the attacker's models")
flags.DEFINE_bool("adaptive", Experiment.adaptive, "also craft poison against each shaping")
flags.DEFINE_integer("finetune_examples", None, "finetune, transfer: on how many training examples; default all")
flags.DEFINE_float("finetune_learning_rate", None, "finetune, transfer: the learning rate; default --learning_rate")
flags.DEFINE_integer("finetune_batch_size", None, "finetune, transfer: the batch size; default --batch_size")
flags.DEFINE_integer("finetune_epochs", None, "finetune, transfer: the epochs; default --epochs")
flags.DEFINE_list("num_poisons", None, "count of poisoned training examples, or several: 1,5,25; overrides --budget")
flags.DEFINE_float("budget", Experiment.budget, "share of the training set that is poisoned, 0 < budget <= 1")
flags.DEFINE_float("eps", Experiment.eps, "l-inf bound of a perturbation of inputs in [0, 1]")
flags.DEFINE_string(
    "target_rule", Experiment.target_rule, "how targets are drawn: runner_up, random or index:N[:CLASS]"
)
flags.DEFINE_integer("trials", Experiment.trials, "independent trials")
flags.DEFINE_float("clip", Experiment.clip, "l2 bound of an example's gradient, > 0")
flags.DEFINE_float("noise", Experiment.noise, "noise multiplier, >= 0")
flags.DEFINE_float("epsilon", None, "privacy to reach, by as much noise as it takes; in place of --noise")
flags.DEFINE_string("defense", None, "several, with commas: shapings and sanitizers; in place of --shaping")
flags.DEFINE_string("shaping", None, "another defense: 'clip(1.0)|noise(0.1)', none; in place of --clip and --noise")
flags.DEFINE_string("engine", Experiment.engine, f"who computes shaped updates: {' or '.join(ENGINES)}")
flags.DEFINE_integer("num_microbatches", None, "tensorflow_privacy only: clip means of that many groups of the batch")
flags.DEFINE_string("optimizer", Experiment.optimizer, "Keras optimizer of the victims: sgd, adam, adagrad, …")
flags.DEFINE_float("learning_rate", Experiment.learning_rate, "learning rate of the victims, > 0")
flags.DEFINE_integer("batch_size", Experiment.batch_size, "batch size of the victims")
flags.DEFINE_integer("epochs", Experiment.epochs, "epochs of the victims")
flags.DEFINE_string(
    "sampling", None, f"of shaped training: {', '.join(SAMPLING)}; default poisson with noise, else shuffle"
)
flags.DEFINE_integer("count_trials", Experiment.count_trials, "trainings on these data that epsilon shall cover")
flags.DEFINE_bool("secure_noise", Experiment.secure_noise, "noise from the system's cryptographic generator")
flags.DEFINE_string("distribute", None, f"train a victim on several devices: {' or '.join(DISTRIBUTE)} (TF_CONFIG)")
flags.DEFINE_float("delta", Experiment.delta, "delta at which epsilon is reported")
flags.DEFINE_bool("controls", Experiment.controls, "train each victim also without the attack")
flags.DEFINE_integer("seed", Experiment.seed, "seed that everything random derives from")


def define_workers():
    """Defines --workers and --memory, for a binary that runs trials."""
    flags.DEFINE_integer("workers", None, "how many trials at a time; default one a core, as far as memory goes")
    flags.DEFINE_float("memory", None, "gigabytes for all workers together; default four fifths of the machine's")
    common.bound(1, common.MOST, "workers")
    common.bound(0, 1e6, "memory")


def from_flags(**changes):
    """The `ts.Experiment` that the flags describe, but for `changes`. Raises ValueError for a value not allowed.

    Names are looked up here too, before TensorFlow is imported for what is behind them.
    """
    values = {name: FLAGS[name].value for name in Experiment.__dataclass_fields__}
    common.check_data()
    if FLAGS.poisons is not None:
        files = glob.glob(os.path.join(glob.escape(FLAGS.poisons), "*.npz"))
        checks.require("poisons", files, "a folder with .npz files", FLAGS.poisons)
    counts = common.integers("num_poisons", "integers >= 1, such as 1,5,25", 1)
    values["num_poisons"] = counts[0] if counts is not None and len(counts) == 1 else counts
    experiment = Experiment(**{**values, "classes": common.classes(), **changes})
    checks.choice("model", experiment.model, models.names())
    if experiment.surrogate_model is not None:
        checks.choice("surrogate_model", experiment.surrogate_model, models.names())
    training.Recipe(experiment.optimizer, experiment.learning_rate, experiment.batch_size, experiment.epochs)
    if experiment.poisons is None:
        checks.choice("attack", calls.parse("attack", experiment.attack)[0], attacks.names())
    target_rule.parse(experiment.target_rule)
    for name in ("shaping", "defense"):
        if getattr(experiment, name) is not None:
            for text in calls.split(name, getattr(experiment, name)):
                calls.parse_chain(name, text)
    require_engine(experiment.engine)
    return experiment
