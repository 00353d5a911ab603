"""Package definition; `bin/evaluate` and `bin/test` install from it, with constraints.txt or constraints-keras3.txt."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "([^"]+)"', (ROOT / "tfshape/__init__.py").read_text("utf-8"))[1]

# tensorflow-privacy imports only on TensorFlow < 2.16, and the pins around it are what still runs beside it.
OLD = 'python_version < "3.12"'
NEW = 'python_version >= "3.12"'
DOCS = ["mkdocs>=1.6,<2", "mkdocstrings[python]>=0.30"]

setuptools.setup(
    name="tfshape",
    version=VERSION,
    description="Measure and mitigate data poisoning of Keras models by gradient shaping",
    long_description=(ROOT / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.9",
    packages=setuptools.find_packages(include=["tfshape", "tfshape.*"]),
    package_data={"tfshape": ["py.typed"], "tfshape.datasets": ["*.npz", "*.txt"]},
    install_requires=[
        "absl-py>=1.4",
        "dp-accounting>=0.4.3",
        "importlib_resources",  # tensorflow-datasets needs it and does not declare it
        "matplotlib>=3.7",
        "numpy>=1.24",
        "pandas>=1.5,<3",
        "scikit-learn>=1.3",
        "tqdm>=4.60",
        f"tensorflow==2.15.1; {OLD}",
        f"keras==2.15.0; {OLD}",
        f"tensorflow-privacy==0.9.0; {OLD}",
        f"pyarrow<18; {OLD}",
        f"cvxpy>=1.5,<1.7; {OLD}",
        f"tensorflow-metadata<1.16; {OLD}",
        'tensorflow-datasets==4.9.6; python_version >= "3.10" and python_version < "3.12"',
        'tensorflow-datasets==4.9.3; python_version < "3.10"',
        f"tensorflow>=2.21,<3; {NEW}",
        f"keras>=3.10,<4; {NEW}",
        f"tensorboard>=2.20,<3; {NEW}",  # TensorFlow no longer brings it, and tf.summary cannot do without
        f"pyarrow>=15; {NEW}",
        f"cvxpy>=1.6; {NEW}",
        f"tensorflow-datasets>=4.9.6; {NEW}",
    ],
    extras_require={
        "docs": DOCS,
        "test": [
            *DOCS,
            "coverage>=7.10",
            "hypothesis>=6.80",
            "mypy>=1.15",
            "pytest>=7.4",
            "pytest-xdist>=3.3",
            "ruff>=0.8",
        ],
        "ray": [f"ray<2.31; {OLD}", f"ray>=2.31; {NEW}"],
        "dev": ["build>=1.0"],
    },
    entry_points={
        "console_scripts": [
            "tfshape-analyze = tfshape.__main__:analyze",
            "tfshape-audit = tfshape.__main__:audit",
            "tfshape-benchmark = tfshape.__main__:benchmark",
            "tfshape-craft = tfshape.__main__:craft",
            "tfshape-evaluate = tfshape.__main__:evaluate",
            "tfshape-poison = tfshape.__main__:poison",
            "tfshape-report = tfshape.__main__:report",
            "tfshape-reproduce = tfshape.__main__:reproduce",
            "tfshape-sweep = tfshape.__main__:sweep",
        ]
    },
    classifiers=[
        "Programming Language :: Python :: 3.9",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Security",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
