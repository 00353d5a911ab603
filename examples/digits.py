"""A plain Keras script: learns the handwritten digits of scikit-learn."""

import keras
import tensorflow as tf
from sklearn.datasets import load_digits

keras.utils.set_random_seed(0)
digits = load_digits()
x, y = (digits.images / 16).astype("float32"), digits.target
train = tf.data.Dataset.from_tensor_slices((x[:1300], y[:1300]))
test = tf.data.Dataset.from_tensor_slices((x[1300:], y[1300:]))

model = keras.Sequential(
    [keras.layers.Flatten(), keras.layers.Dense(128, activation="relu"), keras.layers.Dense(10, activation="softmax")]
)
model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(train.shuffle(1300, seed=0).batch(32), epochs=40, verbose=0)
print(f"test accuracy: {model.evaluate(test.batch(100), verbose=0)[1]:.3f}")
