"""Seeds for named purposes: one integer decides all that is random, and no two purposes share their draws."""

from __future__ import annotations

import numpy as np

# Purposes that had a number before they had a name. Any other is spelled in the seed by its own letters.
_NUMBERS = {
    "choose_target": 1,
    "finetune_set": 2,
    "targeted": 3,
    "clean_label_backdoor": 4,
    "hidden_trigger": 5,
    "influence": 5,
    "sleeper_agent": 6,
    "interpolation": 7,
    "unlearnable": 11,
    "adversarial_poison": 13,
    "surrogate": 0x5A6E,
    "clean_surrogate": 0xC1,
    "retrained_surrogate": 0x7E,
    "judging_surrogate": 0x6C,
    "sanitization": 0x10,
    "spectral_signatures": 0x20,
    "activation_clustering": 0x30,
}


def derive(*key: int | str) -> int:
    """A seed from 0 to 2**32 - 1, made of integers >= 0 and names of purposes.

    Example:
        >>> derive(0, "unlearnable") == derive(0, "unlearnable"), derive(0, "unlearnable") == derive(1, "unlearnable")
        (True, False)
    """
    return int(np.random.SeedSequence(_entropy(key)).generate_state(1)[0])


def generator(*key: int | str) -> np.random.Generator:
    """A random generator for a key as `derive` takes it."""
    return np.random.default_rng(_entropy(key))


def _entropy(key):
    found = []
    for part in key:
        if not isinstance(part, str):
            found.append(int(part))
        elif part in _NUMBERS:
            found.append(_NUMBERS[part])
        else:
            found.extend(part.encode())
    return found
