"""The privacy of one victim: epsilon under the sampling that was run, in words, and the ceiling it puts on attacks."""

from __future__ import annotations

import functools
import math
from typing import Any

from tfshape import certificates, privacy
from tfshape.evaluation import statistics
from tfshape.evaluation.experiment import Experiment


def multiplier(experiment, shaper):
    """The noise multiplier that accounts for the defended training; 0 where there is no finite epsilon.

    Clipping the mean of a microbatch bounds what one example can change by twice the clip, not once.
    """
    value = shaper.noise_multiplier or 0.0 if shaper is not None else 0.0
    grouped = experiment.num_microbatches not in (None, experiment.batch_size)
    return value / 2 if experiment.engine == "tensorflow_privacy" and grouped else value


def sampling(experiment, shaper):
    """How the batches of a training are drawn."""
    if shaper is None or experiment.engine == "tensorflow_privacy":
        return "shuffle"
    return experiment.sampling or ("poisson" if shaper.noise_multiplier else "shuffle")


def _training(
    experiment: Experiment, shaper: Any, num_examples: int, scheme: str
) -> tuple[tuple[float, int, int, int], dict[str, Any]]:
    steps = experiment.epochs * (num_examples // experiment.batch_size)
    options = {} if scheme == "shuffle" else {"truncation": privacy.sampling.TRUNCATION}
    return (multiplier(experiment, shaper), experiment.batch_size, num_examples, steps), {"sampling": scheme, **options}


def epsilon(experiment, shaper, num_examples, scheme):
    """Epsilon of one victim; inf if it started from a model that saw the same data without privacy."""
    if experiment.scenario != "scratch" or not multiplier(experiment, shaper):
        return math.inf
    plan, options = _training(experiment, shaper, num_examples, scheme)
    return privacy.epsilon(*plan, experiment.delta, count_trials=experiment.count_trials, **options)


def statement(experiment, choice, rows):
    """The privacy in words of one victim that was trained on the poison, one of a defense's `rows`.

    It is for the number of examples that this one trained on, inserted poison included, as the row's epsilon is.
    """
    shaper = choice.shaper
    if shaper is None:
        return "Trained without shaping: no differential privacy, epsilon is inf."
    if shaper.noise_multiplier is None:
        return f"{shaper} bounds no example's influence: no differential privacy, epsilon is inf."
    if experiment.scenario != "scratch":
        return "epsilon is inf: training started from a model trained on the same data without privacy."
    plan, options = _training(experiment, shaper, rows[0]["num_examples"], sampling(experiment, shaper))
    options["trainings"] = len(rows)
    options["count_trials"] = experiment.count_trials if experiment.count_trials > 1 else None
    seeded = not experiment.secure_noise
    words = privacy.statement(*plan, experiment.delta, seeded=seeded, secure_noise=experiment.secure_noise, **options)
    inserted = rows[0]["num_poisons"] if rows[0]["inserted"] else 0
    return words + (f"\nThe examples include the {inserted:,} that the attack inserted." if inserted else "")


@functools.lru_cache(maxsize=256)
def ceiling(experiment, shaper, num_examples, num_poisons, inserted, successes, trials):
    """The success rate that no attacker with so many poisons can exceed; 1.0 where nothing is promised.

    From the upper 95% confidence limit of the success without any attack, `successes` of `trials`.
    """
    if experiment.scenario != "scratch" or not multiplier(experiment, shaper) or not trials:
        return 1.0
    plan, options = _training(experiment, shaper, num_examples, sampling(experiment, shaper))
    noise, batch_size, size, steps = plan
    if num_poisons * batch_size / size * math.sqrt(steps) > 10 * noise:
        return 1.0  # the poison's mean effect alone stands out of the noise: the accountant would take long to say so
    clean = statistics.wilson(successes, trials)[1]
    neighbors = "add_remove" if inserted else "replace"
    return certificates.poisoning_ceiling(*plan, num_poisons, clean, neighbors=neighbors, **options)
