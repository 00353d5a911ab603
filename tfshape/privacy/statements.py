"""Privacy statements in words, for a reviewer to sign."""

from tfshape.privacy.accounting import epsilon, participations


def statement(noise_multiplier, batch_size, num_examples, steps, delta, sampling="shuffle"):
    """Says what privacy a DP-SGD run has, under which assumptions, and which of them the run does not meet.

    Args are those of `epsilon`; `sampling` is how the run really drew its batches.

    Returns:
        A string of several lines.

    Raises:
        ValueError: as `epsilon` does.

    Source: modelled on tensorflow-privacy's compute_dp_sgd_privacy_statement.
    """
    args = (noise_multiplier, batch_size, num_examples, steps, delta)
    run = (
        f"DP-SGD on {num_examples:,} examples, batches of {batch_size:,}, {steps:,} steps, "
        f"noise multiplier {noise_multiplier:g}."
    )
    if noise_multiplier == 0:
        epsilon(*args, sampling=sampling)
        return (
            f"{run}\nWithout noise there is no differential privacy: epsilon is inf. Clipping alone guarantees nothing."
        )
    lines = [
        run,
        f"Example-level (epsilon, delta)-differential privacy, adding or removing one example, at delta = {delta:g}:",
    ]
    poisson = f"epsilon = {epsilon(*args, sampling='poisson'):.3f}"
    if sampling == "shuffle":
        used = participations(batch_size, num_examples, steps)
        lines += [
            f"  epsilon = {epsilon(*args, sampling='shuffle'):.3f} for the run as it was: batches shuffled, an "
            f"example used at most {used} times, no amplification by sampling claimed;",
            f"  {poisson} if each batch had been drawn by Poisson sampling, which this run did not do.",
        ]
    else:
        lines.append(f"  {poisson}, batches drawn by Poisson sampling.")
    if delta > 1 / num_examples:
        lines.append(f"delta = {delta:g} exceeds 1 / {num_examples:,}: too large for most uses.")
    lines.append(
        "Assumed: the gradient of every example is clipped by itself, noise is fresh at every step, "
        "and this is the only run on these data (tuning and restarts are not counted)."
    )
    return "\n".join(lines)
