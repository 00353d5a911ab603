"""An experiment from Python: flipped labels against plain and shaped training and a filter, results in a folder."""

import sys

import tfshape as ts

experiment = ts.Experiment(
    attack="label_flip(strategy='pair')",
    budget=0.3,
    dataset="digits",
    model="mlp",
    trials=2,
    epochs=5,
    batch_size=64,
    defense="clip(0.1)|noise(0.1),knn",
)
results = ts.evaluate(experiment, output_dir=sys.argv[1] if len(sys.argv) > 1 else None)
print(results.caption())
print(results.table().to_string(index=False))
