"""A package of somebody else's that brings an attack and a shaper to tfshape; docs/how-to.md shows its files."""

import setuptools

setuptools.setup(
    name="tfshape-example-plugin",
    version="0.1",
    packages=["example_plugin"],
    entry_points={
        "tfshape.attacks": ["swap_classes = example_plugin.swap_classes:SwapClasses"],
        "tfshape.shapers": ["halve_largest = example_plugin.halve_largest:HalveLargest"],
    },
)
