"""PyTorch: plain SGD, and Opacus with its hooks and with ghost clipping. Runs without tfshape and TensorFlow."""

import time

import torch
from protocol import (
    CLASSES,
    CLIP,
    GROUPS,
    HEADS,
    LEARNING_RATE,
    NOISE,
    VOCABULARY,
    WIDTH,
    data,
    hidden_width,
    serve,
)
from torch import nn


class Attention(nn.Module):
    """Self-attention with a shortcut and normalisation; Opacus needs its own class for the attention."""

    def __init__(self, private):
        super().__init__()
        if private:
            from opacus.layers import DPMultiheadAttention as MultiheadAttention
        else:
            from torch.nn import MultiheadAttention
        self.attention = MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x):
        return self.norm(x + self.attention(x, x, x, need_weights=False)[0])


class Mean(nn.Module):
    """The mean over some axes."""

    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.mean(self.axes)


class Block(nn.Module):
    """Two convolutions and a shortcut, as in tfshape/models/resnet.py."""

    def __init__(self, before, width, stride):
        super().__init__()
        self.first = nn.Sequential(convolution(before, width, 3, stride), nn.GroupNorm(GROUPS, width), nn.ReLU())
        self.second = nn.Sequential(convolution(width, width, 3, 1), nn.GroupNorm(GROUPS, width))
        self.shortcut = nn.Identity() if stride == 1 else convolution(before, width, 1, stride)

    def forward(self, x):
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


def convolution(before, width, size, stride):
    return nn.Conv2d(before, width, size, stride, padding=size // 2, bias=False)


def resnet20():
    blocks, before = [], 16
    for width, first_stride in ((16, 1), (32, 2), (64, 2)):
        for stride in (first_stride, 1, 1):
            blocks.append(Block(before, width, stride))
            before = width
    stem = [convolution(3, 16, 3, 1), nn.GroupNorm(GROUPS, 16), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, Mean(2, 3), nn.Linear(64, CLASSES))


def build(name, private):
    if name == "text":
        embedding = nn.Embedding(VOCABULARY, WIDTH)
        return nn.Sequential(embedding, Attention(private), Mean(1), nn.Linear(WIDTH, CLASSES))
    if name == "resnet20":
        return resnet20()
    if name == "cnn":
        convolutions = [nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
        return nn.Sequential(*convolutions, nn.Linear(32 * 12 * 12, 256), nn.ReLU(), nn.Linear(256, CLASSES))
    if name == "lr":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, CLASSES))
    width = hidden_width(name)
    hidden = [nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, CLASSES))


class Trainer:
    """The loop of the PyTorch tutorials over batches in memory."""

    detail = ""

    def __init__(self, model, variant, batch_size):
        private = variant != "torch_sgd"
        self.model = build(model, private).train()
        self.parameters = sum(part.numel() for part in self.model.parameters())
        self.optimizer = torch.optim.SGD(self.model.parameters(), LEARNING_RATE)
        self.loss = nn.CrossEntropyLoss()
        x, y = map(torch.from_numpy, data(model, batch_size))
        x = x.long() if model == "text" else x.movedim(-1, 2).contiguous()
        self.batches = list(zip(x, y.long()))
        if private:
            self.make_private(variant.removeprefix("opacus_"), batch_size)

    def make_private(self, mode, batch_size):
        from opacus import PrivacyEngine

        pairs = torch.utils.data.TensorDataset(*(torch.cat(part) for part in zip(*self.batches)))
        made = PrivacyEngine().make_private(
            module=self.model,
            optimizer=self.optimizer,
            criterion=self.loss,
            data_loader=torch.utils.data.DataLoader(pairs, batch_size),
            noise_multiplier=NOISE,
            max_grad_norm=CLIP,
            poisson_sampling=False,
            grad_sample_mode=mode,
        )
        self.model, self.optimizer = made[:2]
        if mode == "ghost":
            self.loss = made[2]

    def train(self, steps):
        start = time.perf_counter()
        for step in range(steps):
            x, y = self.batches[step % len(self.batches)]
            self.optimizer.zero_grad()
            self.loss(self.model(x), y).backward()
            self.optimizer.step()
        return time.perf_counter() - start


if __name__ == "__main__":
    serve(Trainer)
