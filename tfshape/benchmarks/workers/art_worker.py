"""PyTorch: gradient matching of the Adversarial Robustness Toolbox. Runs without tfshape and TensorFlow.

Called as `art_worker.py PROBLEM.npz RESULT.npz`. The first holds x [K, H, W, C] and y [K], the examples to perturb; a
target, target_x [1, H, W, C], with its intended label; eps, steps, batch_size, seed; and the weights of the model, in
the order of Keras. The second gets x and the seconds that crafting took.
"""

import sys
import time

import numpy as np
import torch
from art.attacks.poisoning import GradientMatchingAttack
from art.estimators.classification import PyTorchClassifier
from torch import nn


class SmallCnn(nn.Module):
    """`small_cnn` of tfshape/models/cnn.py, with its weights, of images [B, H, W, C]."""

    def __init__(self, weights):
        super().__init__()
        weights = [torch.from_numpy(weight) for weight in weights]
        kernels, biases = weights[::2], weights[1::2]
        first, second = (nn.Conv2d(kernel.shape[2], kernel.shape[3], 3) for kernel in kernels[:2])
        hidden, logits = (nn.Linear(*kernel.shape) for kernel in kernels[2:])
        with torch.no_grad():
            for layer, kernel, bias in zip((first, second, hidden, logits), kernels, biases):
                layer.weight.copy_(kernel.movedim((3, 2), (0, 1)) if kernel.ndim == 4 else kernel.T)
                layer.bias.copy_(bias)
        self.convolutions = nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.MaxPool2d(2))
        self.dense = nn.Sequential(hidden, nn.ReLU(), logits)

    def forward(self, x):
        x = self.convolutions(x.movedim(-1, 1))
        return self.dense(x.movedim(1, -1).flatten(1))


def main():
    problem = np.load(sys.argv[1], allow_pickle=False)
    weights = [problem[f"weight_{k}"] for k in range(sum(name.startswith("weight_") for name in problem))]
    torch.manual_seed(int(problem["seed"]))
    np.random.seed(int(problem["seed"]))  # the order in which it takes the examples
    shape = problem["x"].shape[1:]
    model = SmallCnn(weights)
    classifier = PyTorchClassifier(model, nn.CrossEntropyLoss(), shape, weights[-1].shape[0], clip_values=(0.0, 1.0))
    steps = int(problem["steps"])
    attack = GradientMatchingAttack(
        classifier,
        percent_poison=1.0,
        epsilon=float(problem["eps"]),
        max_trials=1,
        max_epochs=steps,
        learning_rate_schedule=([1e-1, 1e-2, 1e-3, 1e-4], [int(steps * share) for share in (0.4, 0.6, 0.8, 0.88)]),
        batch_size=int(problem["batch_size"]),
        verbose=0,
    )
    start = time.perf_counter()
    y = problem["y"].astype(np.int64)
    target_y = np.array([problem["intended"]], np.int64)
    x, _ = attack.poison(problem["target_x"], target_y, problem["x"], y)
    seconds = time.perf_counter() - start
    np.savez(sys.argv[2], x=x.astype(np.float32), seconds=seconds)


if __name__ == "__main__":
    main()
