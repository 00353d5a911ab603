"""Privacy statements in words, for a reviewer to sign."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfshape.privacy.training import NEIGHBORS, Training, probability

USED = {
    "shuffle": "batches shuffled, an example used at most {epochs} times, no amplification by sampling claimed",
    "poisson": "batches drawn by Poisson sampling",
    "balls_in_bins": "batches drawn by throwing balls in bins, an example used {epochs} times",
}


def statement(
    noise_multiplier: float,
    batch_size: float,
    num_examples: int,
    steps: int,
    delta: float,
    sampling: str = "poisson",
    seeded: bool = False,
    secure_noise: bool = False,
    count_trials: int | None = None,
    trainings: int | None = None,
    **options: Any,
) -> str:
    """Says what privacy a DP-SGD run has, under which assumptions, and which of them the run does not meet.

    Args:
        noise_multiplier, batch_size, num_examples, steps, delta: those of `epsilon`.
        sampling: how the run really drew its batches. Where that is by shuffling or by Poisson sampling, the epsilon of
            the other is given too, so that none is taken for the other.
        seeded: whether its noise or its batches came from a seed that somebody knows, as for repeatable science.
        secure_noise: whether its noise was that of `ts.shape(…, secure_noise=True)`.
        count_trials: how many trainings on these data are counted; None: just one, and the statement says so.
        trainings: how many like this one were made on these data in all, counted or not; None: not known.
        options: neighbors, group_size (examples of one person) and truncation, as of `epsilon`.

    Returns:
        A string of several lines.

    Raises:
        ValueError: as `epsilon` does.

    Source: modelled on tensorflow-privacy's compute_dp_sgd_privacy_statement.
    """
    delta = probability("delta", delta)
    run = Training(
        noise_multiplier, batch_size, num_examples, steps, sampling, count_trials=count_trials or 1, **options
    )
    epsilon = run.epsilon(delta)
    opening = (
        f"DP-SGD on {run.num_examples:,} examples, batches of {run.batch_size:,}, {run.steps:,} steps, "
        f"noise multiplier {run.noise_multiplier:g}."
    )
    if run.noise_multiplier == 0:
        return (
            f"{opening}\n"
            "Without noise there is no differential privacy: epsilon is inf. Clipping alone guarantees nothing."
        )
    alone = dataclasses.replace(run, group_size=1)
    lines = [
        opening,
        f"Example-level (epsilon, delta)-differential privacy, {NEIGHBORS[run.neighbors]}, at delta = {delta:g}:",
        f"  epsilon = {alone.epsilon(delta):.3f} for the run as it was: {USED[sampling].format(epochs=run.epochs)};",
    ]
    if sampling == "shuffle":
        poisson = dataclasses.replace(alone, sampling="poisson").epsilon(delta)
        lines.append(
            f"  epsilon = {poisson:.3f} if each batch had been drawn by Poisson sampling, which this run did not do."
        )
    if sampling == "poisson":
        shuffled = dataclasses.replace(alone, sampling="shuffle", truncation=0.0).epsilon(delta)
        lines.append(f"  epsilon = {shuffled:.3f} if batches had been shuffled, as Keras' fit does with arrays.")
    if run.group_size > 1:
        lines.append(f"  epsilon = {epsilon:.3f} for a person who has up to {run.group_size:,} of the examples.")
    else:
        lines.append("  None of it is for a person who has more than one of the examples.")
    lines.append(
        "It covers the weights after every step; not losses, accuracies, counts or choices made with the data."
    )
    lines.append("Assumed: the gradient of every example is clipped by itself, and noise is fresh at every step.")
    decisive = [_SEEDED] if seeded else []
    return "\n".join([*decisive, *lines, *_caveats(run, delta, seeded, secure_noise, count_trials, trainings)])


_SEEDED = (
    "Seeded, for science: not private against anyone who knows the seed, "
    "who can subtract the noise; for them epsilon is inf."
)


def _caveats(run, delta, seeded, secure_noise, count_trials, trainings):
    if secure_noise and not seeded:
        yield "The noise came from the operating system's cryptographic generator, on a grid that hides float rounding."
    elif not seeded:
        yield (
            "Does not hold to the letter: noise of a cryptographic generator without float artefacts "
            "(Mironov 2012); secure_noise=True has both."
        )
    if run.sampling == "shuffle" and run.neighbors == "add_remove":
        yield "A removed example is taken to leave its place in the batches empty: shuffled batches have a fixed size."
    if run.sampling != "shuffle" and not seeded:
        yield "Assumed: who was in which batch stays unknown, and so do the real batch sizes."
    if run.truncation:
        yield (
            f"Batches lose examples to their fixed number of rows with probability {run.truncation:g} a run; "
            "epsilon includes that."
        )
    if trainings is not None and trainings > run.count_trials:
        together = dataclasses.replace(run, count_trials=trainings).epsilon(delta)
        yield (
            f"{trainings:,} such trainings were made on these data, and epsilon counts {run.count_trials:,}: "
            f"with all of them released, it is {together:.3f}."
        )
    elif count_trials is None:
        yield "Assumed: this is the only run on these data (tuning and restarts are not counted)."
    elif run.count_trials > 1:
        yield f"All of {run.count_trials:,} runs on these data are counted, as if each had been released."
    if delta > 1 / run.num_examples:
        yield f"delta = {delta:g} exceeds 1 / {run.num_examples:,}: too large for most uses."
