"""The script of digits.py with DP-SGD, and what its privacy is."""

import keras
from sklearn.datasets import load_digits

import tfshape as ts

keras.utils.set_random_seed(0)
digits = load_digits()
x, y = (digits.images / 16).astype("float32"), digits.target
model = keras.Sequential(
    [keras.layers.Flatten(), keras.layers.Dense(128, activation="relu"), keras.layers.Dense(10, activation="softmax")]
)

model = ts.shape(model, ts.shaping.dp_sgd(clip=0.5, noise=0.5))
model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x[:1280], y[:1280], batch_size=64, epochs=40, verbose=0)
print(f"test accuracy: {model.evaluate(x[1300:], y[1300:], verbose=0)[1]:.3f}")
steps = 40 * 1280 // 64
print(ts.privacy.statement(0.5, batch_size=64, num_examples=1280, steps=steps, delta=1e-5, sampling="shuffle"))
