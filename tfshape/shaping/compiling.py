"""The loss of `compile`, as one function with a value for each example."""

from __future__ import annotations

import keras

from tfshape import checks

from ..gradients import per_example_losses


def joint_loss(loss, loss_weights=None, output_names=None):
    """What to hand the gradient engine for `compile(loss=…, loss_weights=…)`.

    One loss without a weight is handed on as it is. Else a function that adds up the outputs' losses [B], times their
    weights; an output without a loss is left out.
    Raises ValueError if a loss is missing or unknown, or if losses or weights do not fit the outputs.
    """
    checks.require("loss", loss is not None, "given, as a name, a Keras loss or a function", loss)
    several = isinstance(loss, (list, tuple, dict))
    if not several and output_names is not None and len(output_names) > 1:
        checks.fail("loss", f"a list or dict, one for each of the outputs {', '.join(output_names)}", loss)
    names = None if output_names is None else list(output_names)
    parts = _entries("loss", loss if several else [loss], names, None if names is None else len(names))
    parts = {key: _known(part) for key, part in parts.items() if part is not None}
    if loss_weights is None:
        if not several:
            return parts[0]
        weights = {}
    else:
        single = not several and not isinstance(loss_weights, (list, tuple, dict))  # as Keras 3 takes it
        count = len(loss if several else [loss]) if names is None else len(names)
        weights = _entries("loss_weights", [loss_weights] if single else loss_weights, names, count)
        weights = {key: checks.real("loss_weights", value) for key, value in weights.items() if value is not None}

    def name(key):
        return names[key] if isinstance(key, int) and names is not None else key

    weights = {name(key): weight for key, weight in weights.items()}

    def pick(values, key):
        if isinstance(values, dict):
            return values[key if key in values else name(key)]
        if not several or not isinstance(values, (list, tuple)):
            return values
        return values[key if isinstance(key, int) or names is None else names.index(key)]

    def example_loss(y_true, y_pred):
        total = 0.0
        for key, part in parts.items():
            value = per_example_losses(part, pick(y_true, key), pick(y_pred, key))
            total += weights.get(name(key), 1.0) * value
        return total

    example_loss.__name__ = " + ".join(map(loss_name, parts.values()))
    return example_loss


def loss_name(loss):
    """What a message calls a loss."""
    return getattr(loss, "__name__", None) or getattr(loss, "name", None) or str(loss)


def _entries(argument, given, known, count):
    """A dict from what each entry belongs to, a place or an output's name, to the entry."""
    if isinstance(given, dict):
        for key in given if known else ():
            if key not in known:
                near = checks.did_you_mean(key, known)
                raise ValueError(
                    f"{argument} must name outputs among {', '.join(known)}, got {checks.shown(key)}{near}"
                )
        return dict(given)
    if not isinstance(given, (list, tuple)):
        checks.fail(argument, "a list or dict, with one entry for each output", given)
    if count is not None and len(given) != count:
        checks.fail(argument, f"a list of {count}, one entry for each output", given)
    return dict(enumerate(given))


def _known(loss):
    try:
        return keras.losses.get(loss)
    except (ValueError, TypeError):
        raise ValueError(f"loss must be a Keras loss by name, object or function, got {checks.shown(loss)}") from None
