"""Per-example gradients: norms, inner products and weighted sums of a batch."""

import tensorflow as tf

from tfshape.gradients import losses as losses_lib


def per_example(model, loss, x, y, sample_weight=None, training=True, variables=None):
    variables = list(model.trainable_variables if variables is None else variables)
    tensors = [getattr(v, "value", None) if not callable(getattr(v, "value", None)) else v for v in variables]

    def one(args):
        x1, y1, w1 = tf.nest.map_structure(lambda t: t[None], args)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for tensor in tensors:
                tape.watch(tensor)
            value = losses_lib.per_example_losses(loss, y1, model(x1, training=training), w1)
        return tape.gradient(value, tensors, unconnected_gradients="zero")

    x, y = tf.nest.map_structure(tf.convert_to_tensor, (x, y))
    y_pred = model(x, training=training)
    values = losses_lib.per_example_losses(loss, y, y_pred, sample_weight)
    weight = tf.ones_like(values) if sample_weight is None else tf.cast(sample_weight, values.dtype)
    return PerExample(values, y_pred, variables, tf.vectorized_map(one, (x, y, weight)))


class PerExample:
    def __init__(self, losses, y_pred, variables, gradients):
        self.losses, self.y_pred, self.variables = losses, y_pred, variables
        self._gradients = [tf.reshape(g, [tf.shape(g)[0], -1]) for g in gradients]
        self._shapes = [v.shape for v in variables]
        # one (name, indices into variables) a row of layer_norms
        self.layers = []
        for i, v in enumerate(variables):
            name = getattr(v, "path", v.name).rsplit("/", 1)[0]
            if self.layers and self.layers[-1][0] == name:
                self.layers[-1][1].append(i)
            else:
                self.layers.append((name, [i]))

    @property
    def layer_norms(self):
        """[L, B], a row per entry of `layers`."""
        squares = [tf.reduce_sum(tf.square(g), 1) for g in self._gradients]
        return tf.sqrt(tf.stack([tf.add_n([squares[i] for i in indices]) for _, indices in self.layers]))

    @property
    def norms(self):
        return tf.sqrt(tf.reduce_sum(tf.square(self.layer_norms), 0))

    def dot(self, direction):
        return tf.add_n([tf.linalg.matvec(g, tf.reshape(d, [-1])) for g, d in zip(self._gradients, direction)])

    def gram(self):
        return tf.add_n([tf.matmul(g, g, transpose_b=True) for g in self._gradients])

    def weighted_sum(self, weights):
        """weights [B] or [L, B] -> list like variables."""
        rows = [None] * len(self.variables)
        for row, (_, indices) in enumerate(self.layers):
            for i in indices:
                rows[i] = weights if weights.shape.rank == 1 else weights[row]
        safe = [tf.where(w[:, None] == 0, tf.zeros_like(g), g) for g, w in zip(self._gradients, rows)]
        return [
            tf.reshape(tf.linalg.matvec(g, w, transpose_a=True), shape)
            for g, w, shape in zip(safe, rows, self._shapes)
        ]

    def materialize(self):
        return [tf.reshape(g, [-1, *shape]) for g, shape in zip(self._gradients, self._shapes)]

    def regularization(self):
        """Gradients of the model's regularisation losses, a list like variables, or None if there are none."""
        return None
