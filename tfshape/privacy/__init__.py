"""Privacy of DP-SGD training: epsilon under the sampling that was really run, and a statement in words."""

from tfshape.privacy.accounting import SAMPLING, epsilon
from tfshape.privacy.statements import statement

__all__ = ["SAMPLING", "epsilon", "statement"]
