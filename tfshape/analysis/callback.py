"""A Keras callback that watches the artifacts of poison while a model trains."""

from __future__ import annotations

import csv
import dataclasses
import os
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfshape import checks, gradients, shaping
from tfshape.analysis import measures
from tfshape.analysis.alarm import Alarm, Trace, check, smoke_alarm
from tfshape.analysis.tracing import compiled_loss
from tfshape.tables import cell

EVERY = {"epoch": 256, "batch": 32}  # when to look, and at how many examples if not told
_SCALAR = tf.compat.v1.SummaryMetadata(  # tf.summary.scalar would want TensorBoard installed
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
)


class GradientArtifacts(keras.callbacks.Callback):
    """Looks at per-example gradients before training and after every epoch or batch.

    A look takes the same examples each time, at the weights as they are then, with the model in inference mode; their
    gradients are never materialised. Of a shaped model it tells the numbers before and after shaping. They go to
    `csv_path`, a row a look, view and layer (epoch 0 is before training; see `artifacts` for the columns); those of the
    whole gradient also into the logs of each epoch, and so into `fit(…).history` (`magnitude_ratio`, `cosine`, …, and
    `shaped_…`), the mean over its looks; and to `log_dir` for TensorBoard, with every layer.

    A look costs about as much as a training step on as many examples: with the default `examples`, looking after every
    batch makes training an mlp in batches of 256 some 1.1 times as long, after every epoch not measurably longer
    (`bin/benchmark --suite=analysis`). Memory does not grow with the number of looks.

    Attributes:
        history: the same as in the logs, dict of name to a list, a number an epoch.
        start: the same before training, dict of name to a number.
        norms: the norms that the latest look saw, dict of view to group ("clean" and "poison", or "all") to an array.
        alarm: after training, an `Alarm` if `trusted` was given, else None. Its indices are those of `data`.
    """

    def __init__(
        self,
        data: Any,
        every: str = "epoch",
        examples: int | str | None = "auto",
        batch_size: int = 256,
        trusted: Any = None,
        false_alarm_rate: float = 0.01,
        loss: Any = None,
        csv_path: str | os.PathLike | None = None,
        log_dir: str | os.PathLike | None = None,
        seed: int = 0,
    ) -> None:
        """
        Args:
            data: what to look at, arrays (x [N, …], y [N, …]) or (x, y, is_poison bool [N]), or an unbatched, finite
                `tf.data.Dataset` of such, which is held in memory.
            every: "epoch" or "batch", when to look.
            examples: how many a look takes, >= 2, drawn once by `seed`, with poison, or trusted examples, in proportion
                but one at least; None for all. "auto": all for the smoke alarm, else 256, or 32 with every="batch".
            batch_size: examples at a time, >= 2. Cosines are to the mean of such a batch; for the smoke alarm, where
                labels are whole numbers, a batch holds examples of one label.
            trusted: bool [N], examples that are known to be clean, for the smoke alarm: where it is not known which
                are poison. They have to be drawn at random from the training data, and trained on; see `smoke_alarm`.
            false_alarm_rate: of the alarm.
            loss: as `ts.gradients.per_example` takes it; by default what the model was compiled with.
            csv_path, log_dir: a file and a folder to write, or None.
            seed: int >= 0.

        Raises:
            ValueError: a value that is not allowed.
        """
        super().__init__()
        arrays = _arrays(data)
        self._x, self._y, self._is_poison = (*arrays, None)[:3]
        size = len(tf.nest.flatten(self._y)[0])
        checks.choice("every", every, EVERY)
        if examples == "auto":
            examples = None if trusted is not None else EVERY[every]
        examples = None if examples is None else checks.integer("examples", examples, 2)
        batch_size = checks.integer("batch_size", batch_size, 2)
        for name, marks in (("is_poison", self._is_poison), ("trusted", trusted)):
            good = marks is None or (np.asarray(marks).dtype == bool and np.shape(marks) == (size,))
            checks.require(name, good, f"one bool for each of the {size} examples", marks)
        both = trusted is not None and self._is_poison is not None
        checks.require("trusted", not both, "None where is_poison is given", trusted)
        self._every, self._loss, self._csv_path, self._log_dir = every, loss, csv_path, log_dir
        self._trusted = None if trusted is None else np.asarray(trusted)
        self._rate, self._seed = false_alarm_rate, seed
        if trusted is not None:
            check(self._trusted, false_alarm_rate, _permutations(false_alarm_rate))
        marks = self._trusted if self._is_poison is None else self._is_poison
        rng = np.random.default_rng([seed, 5])
        rows = rng.permutation(draw(size, marks, examples, rng))
        labels = self._y if trusted is not None and _are_labels(self._y) else np.zeros(size, int)
        kinds = [rows[labels[rows] == label] for label in np.unique(labels[rows])]
        self._batches = [part for kind in kinds for part in np.array_split(kind, -(-len(kind) // batch_size))]
        self._rows = np.concatenate(self._batches)
        self._labels = labels[self._rows]
        self.history: dict = {}
        self.start: dict = {}
        self.norms: dict = {}
        self.alarm: Alarm | None = None
        self._sums: np.ndarray | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.history, self.alarm, self._trace = {}, None, Trace(self._labels)
        shaped = isinstance(self.model, shaping.ShapedModel)
        loss = compiled_loss(self.model) if self._loss is None else self._loss
        model = self.model.model if shaped else self.model
        self._layers: list[str] = []

        def look(x, y, is_poison):
            found = gradients.per_example(model, loss, x, y, training=False)
            self._layers = [name for name, _ in found.layers]
            weights = self.model.example_weights(found) if shaped else None
            return measures.measure(found, is_poison, weights)

        self._look = tf.function(look, autograph=False, reduce_retracing=True)
        # what fits in one batch is put where the model is once, not at every look
        self._kept = self._batch(self._batches[0]) if len(self._batches) == 1 else None
        self._file = self._summaries = None
        columns = ["epoch", "batch", "view", "layer", *measures.names(self._is_poison is not None)]
        if self._csv_path is not None:
            os.makedirs(os.path.dirname(os.path.abspath(self._csv_path)), exist_ok=True)
            self._file = open(self._csv_path, "w", newline="", encoding="utf-8")  # noqa: SIM115 - on_train_end closes it
            self._writer = csv.DictWriter(self._file, columns)
            self._writer.writeheader()
        if self._log_dir is not None:
            self._summaries = tf.summary.create_file_writer(os.fspath(self._log_dir))
        self._epoch, self._sums, self._looks = 0, None, 0
        self._record("")
        self.start = self._of_whole(self._summarise())

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch, self._sums, self._looks = epoch + 1, None, 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self._every == "batch":
            self._record(batch)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self._every == "epoch":
            self._record("")
        for name, value in self._of_whole(self._summarise()).items():
            self.history.setdefault(name, []).append(value)
            if logs is not None:
                logs[name] = value

    def on_train_end(self, logs: dict | None = None) -> None:
        if self._trusted is not None:
            options = {"permutations": _permutations(self._rate), "seed": self._seed}
            found = smoke_alarm(self._trace.scores(), self._trusted[self._rows], self._labels, self._rate, **options)
            self.alarm = dataclasses.replace(found, suspicious=self._rows[found.suspicious])
        if self._file is not None:
            self._file.close()
        if self._summaries is not None:
            self._summaries.close()

    def _batch(self, rows):
        take = lambda array: tf.convert_to_tensor(array[rows])  # noqa: E731
        marks = None if self._is_poison is None else take(self._is_poison)
        return *tf.nest.map_structure(take, (self._x, self._y)), marks

    def _record(self, batch):
        """One look: its rows to the file, and to the sums of the epoch."""
        seen = measures.Look(self._is_poison is not None)
        for rows in self._batches:
            parts = self._batch(rows) if self._kept is None else self._kept
            measured = {name: value.numpy() for name, value in self._look(*parts).items()}
            seen.add(measured, None if self._is_poison is None else self._is_poison[rows])
        if self._trusted is not None and self._epoch:
            self._trace.add(seen.scores())
        found, self.norms = seen.rows(self._layers), seen.norms()
        if self._file is not None:
            cells = ({"epoch": self._epoch, "batch": batch, **row} for row in found)
            self._writer.writerows({name: cell(value) for name, value in row.items()} for row in cells)
            if batch == "":
                self._file.flush()
        numbers = np.array([[row[name] for name in measures.names(seen.known)] for row in found])
        self._sums = numbers if self._sums is None else self._sums + numbers
        self._looks += 1
        self._heads = [(row["view"], row["layer"]) for row in found]

    def _of_whole(self, rows):
        """The numbers of the whole gradient among rows, by the names that they have in the logs."""
        return {
            name if row["view"] == "raw" else f"{row['view']}_{name}": row[name]
            for row in rows
            if row["layer"] == measures.WHOLE
            for name in measures.names(self._is_poison is not None)
        }

    def _summarise(self):
        """The means over the epoch's looks, as rows; written to TensorBoard."""
        if self._sums is None:
            return []
        names = measures.names(self._is_poison is not None)
        rows = [
            {"view": view, "layer": layer, **dict(zip(names, map(float, values)))}
            for (view, layer), values in zip(self._heads, self._sums / self._looks)
        ]
        if self._summaries is not None:
            with self._summaries.as_default(step=self._epoch):
                for row in rows:
                    for name in names:
                        tag = f"{name}/{row['layer']}/{row['view']}"
                        tf.summary.write(tag, tf.constant(row[name], tf.float32), metadata=_SCALAR)
            self._summaries.flush()
        return rows


def draw(size, marks, examples, rng):
    """Sorted indices of `examples` of `size` examples (None: of all), in which `marks` (bool [size], or None) has the
    share that it has in all, but one example of either kind at least."""
    if examples is None or examples >= size:
        return np.arange(size)
    if marks is None or marks.all() or not marks.any():
        return np.sort(rng.choice(size, examples, replace=False))
    count = min(max(round(examples * marks.mean()), 1), examples - 1)
    chosen = [
        rng.choice(np.flatnonzero(kind), n, replace=False) for kind, n in ((marks, count), (~marks, examples - count))
    ]
    return np.sort(np.concatenate(chosen))


def _are_labels(y):
    return isinstance(y, np.ndarray) and y.ndim == 1 and y.dtype.kind in "iu"


def _permutations(rate):
    """As many as the rate needs to be met exactly, 999 at least."""
    return max(999, int(np.ceil(10 / rate)) - 1) if 0 < rate < 1 else 999


def _arrays(data):
    """(x, y) or (x, y, is_poison) as arrays; x may be a nest of them."""
    if isinstance(data, tf.data.Dataset):
        spec = data.element_spec
        if not isinstance(spec, tuple) or int(data.cardinality()) == tf.data.INFINITE_CARDINALITY:
            checks.fail("data", "a finite dataset of unbatched tuples (x, y) or (x, y, is_poison)", data)
        items = list(data.as_numpy_iterator())
        data = tf.nest.map_structure(lambda *rows: np.stack(rows), *items)
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        checks.fail("data", "(x, y) or (x, y, is_poison)", data)
    arrays = tuple(tf.nest.map_structure(np.asarray, part) for part in data)
    sizes = {len(part) for part in tf.nest.flatten(arrays)}
    checks.require("data", len(sizes) == 1 and sizes != {0}, "arrays of one length, at least 1", sorted(sizes))
    return arrays
