"""Gives examples of one class the label of another."""

import dataclasses

import numpy as np

import tfshape as ts


@dataclasses.dataclass(frozen=True)
class SwapClasses:
    """Relabels `problem.num_poisons` training examples of class `source` as `target`."""

    source: int = 0
    target: int = 1

    name = "swap_classes"
    kind = "indiscriminate"

    def check(self, problem):
        """Raises ValueError before anything runs, if there are too few examples to relabel."""
        problem.candidates(self.source)

    def craft(self, problem):
        """The `ts.poison.Poisons`: the same examples, labelled `target`."""
        train, generator = problem.dataset.train, np.random.default_rng(problem.seed)
        chosen = np.sort(generator.choice(problem.candidates(self.source), problem.num_poisons, replace=False))
        return ts.poison.Poisons(
            x=train.x[chosen],
            y=np.full(len(chosen), self.target),
            base=chosen,
            num_examples=len(train),
            attack=self.name,
            config=dataclasses.asdict(self),
            seed=problem.seed,
        )
