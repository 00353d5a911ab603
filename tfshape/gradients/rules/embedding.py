"""Embedding."""

import keras
import tensorflow as tf

from tfshape.gradients import parts, scaling
from tfshape.gradients.rules import base

# up to this many tokens an example all pairs of them are compared, above it they are sorted
_PAIRS = 64


class Rule(base.Rule):
    """Embedding of integer ids [B, ...]."""

    @staticmethod
    def matches(layer):
        return isinstance(layer, keras.layers.Embedding) and not base.overrides(layer, [keras.layers.Embedding])

    @staticmethod
    def known(layer):
        return [layer.embeddings]

    def parts(self):
        size, width = self.layer.embeddings.shape
        ids, gradients = [], []
        for call in self.calls:
            e = base.wide(call.gradients[0])
            count = tf.shape(e)[0]
            static = call.inputs.shape[1:].num_elements()
            steps = -1 if static is None else static
            index = call.inputs if call.inputs.dtype == tf.int64 else tf.cast(call.inputs, tf.int32)
            ids.append(tf.math.floormod(tf.reshape(index, [count, steps]), size))  # Keras 3 lets -1 be the last
            gradients.append(tf.reshape(e, [count, steps, width]))
        return [Lookup(self.layer.embeddings, tf.concat(ids, 1), tf.concat(gradients, 1))]


class Lookup:
    """Rows looked up: G_i has e_it added to row ids_it; ids [B, T], e [B, T, D]."""

    def __init__(self, variable, ids, e):
        self.variables, self._ids, self._e = [variable], ids, e

    def squares(self):
        unit = scaling.unit(self._e)
        e, time = self._e * parts.rows(scaling.inverse(unit), self._e), self._ids.shape[1]
        if time == 1:
            return scaling.product(parts.square_sum(e), unit, unit)
        direct = lambda: parts.square_sum(self._rows(e))  # noqa: E731
        # (sum_t |e_t|)^2 is no larger
        bound = parts.square_sum(e) * tf.cast(tf.shape(self._ids)[1], e.dtype)
        if time is None or time > _PAIRS:
            found = direct()
        else:
            same = tf.cast(self._ids[:, :, None] == self._ids[:, None, :], e.dtype)
            found = tf.reduce_sum(same * tf.matmul(e, e, transpose_b=True), [1, 2])
            found = parts.guarded(found, bound, direct)
        return scaling.product(parts.slack(found, bound), unit, unit)

    def _rows(self, e):
        """[B, T, D]: the entries of equal ids of an example added up, the places left over zero."""
        count, time = tf.shape(self._ids)[0], tf.shape(self._ids)[1]
        order = tf.argsort(self._ids, 1)
        ids, e = tf.gather(self._ids, order, batch_dims=1), tf.gather(e, order, batch_dims=1)
        new = tf.pad(tf.cast(ids[:, 1:] != ids[:, :-1], tf.int32), [[0, 0], [1, 0]])
        place = tf.cumsum(new, 1) + tf.range(count)[:, None] * time
        return tf.reshape(tf.math.unsorted_segment_sum(e, place, count * time), tf.shape(e))

    def dot(self, directions, weights):
        found = tf.gather(tf.cast(directions[0], self._e.dtype), self._ids)
        return tf.reduce_sum(found * (self._e * parts.rows(weights, self._e)), [1, 2])

    def gram(self, weights):
        weighted = self._e * parts.rows(weights, self._e)

        # one example at a time as a direction: the table for one, not for all
        def row(pair):
            table = tf.math.unsorted_segment_sum(pair[1], pair[0], self.variables[0].shape[0])
            return tf.reduce_sum(tf.gather(table, self._ids) * weighted, [1, 2])

        return tf.map_fn(row, (self._ids, weighted), fn_output_signature=weighted.dtype)

    def weighted_sum(self, weights, keep):
        e = parts.zero_rows(self._e, keep)
        return [tf.math.unsorted_segment_sum(e * parts.rows(weights, e), self._ids, self.variables[0].shape[0])]

    def materialize(self):
        size, width = self.variables[0].shape
        count = tf.shape(self._ids)[0]
        place = tf.cast(self._ids, tf.int32) + tf.range(count)[:, None] * size
        return [tf.reshape(tf.math.unsorted_segment_sum(self._e, place, count * size), [count, size, width])]
