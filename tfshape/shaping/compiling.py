"""The loss of `compile`, as one function with a value for each example."""

from __future__ import annotations

import keras

from ..gradients.losses import per_example_losses


def joint_loss(loss, loss_weights=None, output_names=None):
    """What to hand the gradient engine for `compile(loss=…, loss_weights=…)`.

    One loss is handed on as it is. A list, or a dict by output name, of losses becomes a function that adds up the
    outputs' losses [B], times their weights; an output without a loss is left out.
    Raises ValueError if a loss is missing, unknown, or does not fit the outputs.
    """
    if loss is None:
        raise ValueError("loss must be given, as a name, a Keras loss or a function; got None")
    several = isinstance(loss, (list, tuple, dict))
    if not several:
        if loss_weights is not None or (output_names is not None and len(output_names) > 1):
            raise ValueError(f"loss must be a list or dict, one for each of the outputs {output_names}; got {loss!r}")
        return _known(loss)
    if isinstance(loss, dict) and output_names is not None and not set(loss) <= set(output_names):
        raise ValueError(f"loss must name outputs among {', '.join(output_names)}; got {', '.join(loss)}")
    if not isinstance(loss, dict) and output_names is not None and len(loss) != len(output_names):
        raise ValueError(f"loss must have one entry for each of {len(output_names)} outputs; got {len(loss)}")
    parts = dict(loss) if isinstance(loss, dict) else dict(enumerate(loss))
    parts = {key: _known(part) for key, part in parts.items() if part is not None}
    if not isinstance(loss_weights, (type(None), dict)):
        loss_weights = dict(enumerate(loss_weights))

    def pick(values, key):
        if isinstance(values, dict) or not isinstance(values, (list, tuple)):
            return values[key] if isinstance(values, dict) else values
        return values[key if isinstance(key, int) else list(output_names).index(key)]

    def example_loss(y_true, y_pred):
        total = 0.0
        for key, part in parts.items():
            weight = 1.0 if loss_weights is None else loss_weights.get(key, 1.0)
            total += weight * per_example_losses(part, pick(y_true, key), pick(y_pred, key))
        return total

    return example_loss


def _known(loss):
    try:
        return keras.losses.get(loss)
    except (ValueError, TypeError):
        raise ValueError(f"loss must be a Keras loss by name, object or function; got {loss!r}") from None
