"""The defenses of an experiment: undefended training first, then shapers and sanitisers as they were spelled."""

from __future__ import annotations

import dataclasses
import math
import re

from tfshape import calls, checks, defenses, privacy, shaping


@dataclasses.dataclass(frozen=True)
class Choice:
    """One row of the table: a `shaper`, or a `sanitiser` of `ts.defenses`, or neither: undefended."""

    name: str
    shaper: object = None
    sanitiser: object = None


def choices(experiment, num_examples):
    """Dict of name to `Choice`, undefended first.

    Raises ValueError for a defense that is not known, or cannot be used with the experiment's engine or sampling.
    """
    e = experiment
    texts = [f"clip({e.clip})|noise({_noise(e, num_examples)})"]
    if e.shaping is not None:
        texts = [e.shaping]
    if e.defense is not None:
        texts = calls.split("defense", e.defense)
        for text in texts:
            checks.require("defense", _word(text) in _known(), f"one of {', '.join(_known())}", text)
    found = {"none": Choice("none")}
    for text in texts:
        choice = _choice(text)
        found.setdefault(choice.name, choice)
    for name, choice in found.items():
        alone = choice.sanitiser is None and not any(s.whole_batch for s in getattr(choice.shaper, "shapers", ()))
        words = f"None with {name}: each replica sees its own examples only"
        checks.require("distribute", e.distribute is None or alone, words, e.distribute)
    shaped = [choice for choice in found.values() if choice.shaper is not None]
    checks.require("adaptive", bool(shaped) or not e.adaptive, "False without a shaping to adapt to", e.adaptive)
    return found


def _word(text):
    return re.split(r"\W", text.lstrip(), maxsplit=1)[0]


def _known():
    """The names that a defense may begin with."""
    return sorted({*shaping.names(), "dp_sgd", *defenses.names()} - {"chain"})


def _choice(text):
    word = _word(text)
    if word != "none" and word in defenses.names():
        sanitiser = defenses.parse(text)
        return Choice(str(sanitiser), sanitiser=sanitiser)
    shaper = shaping.parse(text)
    return Choice("none") if shaper is None else Choice(str(shaper), shaper)


def _noise(experiment, num_examples):
    """The experiment's noise multiplier, or what its epsilon takes."""
    e = experiment
    if e.epsilon is None:
        return e.noise
    steps = e.epochs * (num_examples // e.batch_size)
    sampling = e.sampling or ("shuffle" if e.engine == "tensorflow_privacy" else "poisson")
    options = {"count_trials": e.count_trials}
    if sampling != "shuffle":
        options["truncation"] = privacy.sampling.TRUNCATION
    noise = privacy.noise_for(e.epsilon, e.batch_size, num_examples, steps, e.delta, sampling=sampling, **options)
    noise = noise if e.num_microbatches in (None, e.batch_size) else 2 * noise
    digits = 10.0 ** (3 - math.floor(math.log10(noise)))
    return math.ceil(noise * digits) / digits
