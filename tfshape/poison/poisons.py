"""Crafted poison as data: what an attack made, from which examples, against which targets; one file, no pickle."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import numpy as np

from tfshape import archive, checks, files, pixels

SCHEMA = 1
_ARRAYS = ("x", "y", "base", "target_x", "target_y", "intended_y")
_META = ("attack", "config", "seed", "num_examples", "schema")
_MAX_META = 1 << 22  # bytes of JSON


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Poisons:
    """K crafted examples and the T targets they were crafted for.

    Attributes:
      x: the poison, float32 or uint8 [K, *input_shape].
      y: the labels it is inserted with, int32 [K].
      base: int64 [K], the index in the clean training set of the example each was made from; -1 if from none.
      num_examples: the size of the training set that `base` refers to.
      target_x: the examples the attacker wants misclassified, [T, *input_shape], dtype of x; None for none.
      target_y: their true labels, int32 [T]. intended_y: the labels the attacker wants, int32 [T].
      attack: its name. config: its options, JSON values only. seed: the integer it was crafted with.
      schema: version of the file format.

    Raises:
      ValueError: naming the field, its value and what is allowed.
    """

    x: np.ndarray
    y: np.ndarray
    base: np.ndarray
    num_examples: int
    target_x: Any = None
    target_y: Any = ()
    intended_y: Any = ()
    attack: str = ""
    config: dict = dataclasses.field(default_factory=dict)
    seed: int = 0
    schema: int = SCHEMA

    def __post_init__(self):
        def put(name, value):
            object.__setattr__(self, name, value)

        put("x", _examples("x", self.x))
        target_x = np.zeros((0, *self.x.shape[1:]), self.x.dtype) if self.target_x is None else self.target_x
        put("target_x", _examples("target_x", target_x))
        if self.target_x.dtype != self.x.dtype or self.target_x.shape[1:] != self.x.shape[1:]:
            raise ValueError(
                f"target_x must be {self.x.dtype} [T, *{list(self.x.shape[1:])}] like x, "
                f"got {self.target_x.dtype} {list(self.target_x.shape)}"
            )
        for name in ("seed", "num_examples", "schema"):
            put(name, checks.integer(name, getattr(self, name)))
        checks.require("schema", self.schema == SCHEMA, f"{SCHEMA}, which this version knows", self.schema)
        put("num_examples", checks.integer("num_examples", self.num_examples, 0, 2**62 - 1))
        labels = np.iinfo(np.int32).max
        put("y", _integers("y", self.y, len(self.x), 0, labels, np.int32))
        put("base", _integers("base", self.base, len(self.x), -1, self.num_examples - 1, np.int64))
        put("target_y", _integers("target_y", self.target_y, len(self.target_x), 0, labels, np.int32))
        put("intended_y", _integers("intended_y", self.intended_y, len(self.target_x), 0, labels, np.int32))
        checks.require("attack", isinstance(self.attack, str), "a string", self.attack)
        try:
            put("config", json.loads(json.dumps(dict(self.config), allow_nan=False)))
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"config must hold finite JSON values only: {error}") from None

    def __len__(self):
        return len(self.x)

    def __repr__(self):
        return (
            f"Poisons(attack={self.attack!r}, x={self.x.dtype}{list(self.x.shape)}, targets={len(self.target_x)}, "
            f"num_examples={self.num_examples}, seed={self.seed})"
        )

    def astype(self, dtype: Any) -> Poisons:
        """The same poison for images of another kind: float32 in [0, 1] <-> uint8 in [0, 255], rounded.

        uint8 that are all 0 or 1 are a drawing in black and white, and become the same numbers.
        """
        dtype = np.dtype(dtype)
        checks.choice("dtype", str(dtype), ("float32", "uint8"))
        if dtype == self.x.dtype:
            return self

        white = pixels.white(self.x.dtype, max(self.x.max(initial=0), self.target_x.max(initial=0)))

        def convert(name):
            x = getattr(self, name)
            if dtype == np.float32:
                return x.astype(np.float32) / np.float32(white)
            if x.size and not (x.min() >= 0 and x.max() <= 1):
                raise ValueError(f"{name} must lie within [0, 1] to become uint8, got {x.min()} to {x.max()}")
            return np.rint(x * 255).astype(np.uint8)

        return dataclasses.replace(self, x=convert("x"), target_x=convert("target_x"))

    def put_into(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Poisoned arrays: as `replace` where there is a base example, and `insert` where there is none, do it.

        Args:
          x: the clean examples, [num_examples, *input_shape], of the poison's dtype. y: their labels, [num_examples].

        Returns:
          (x [N, *input_shape], y [N], is_poison, bool [N]): new arrays, with what is inserted at the end.

        Raises:
          ValueError: examples of another number, shape or dtype, or bases that repeat.
        """
        inserted, base = self.base < 0, self.base[self.base >= 0]
        fits = (len(x) == self.num_examples or inserted.all()) and x.shape[1:] == self.x.shape[1:]
        words = f"{self.num_examples} examples {self.x.dtype} {list(self.x.shape[1:])}, which the poison is for"
        checks.require("x", fits and x.dtype == self.x.dtype, words, f"{x.dtype} {list(x.shape)}")
        if len(np.unique(base)) != len(base):
            raise ValueError("base examples must be distinct, got several poisons that share one")
        x = np.concatenate([x, self.x[inserted]])
        y = np.concatenate([y, self.y[inserted].astype(y.dtype)])
        marks = np.arange(len(y)) >= len(y) - np.count_nonzero(inserted)
        x[base], y[base], marks[base] = self.x[~inserted], self.y[~inserted], True
        return x, y, marks

    def save(self, path: str | os.PathLike) -> None:
        """Writes one uncompressed .npz, atomically: the arrays, `meta` (JSON in UTF-8, as uint8), and a checksum."""
        meta = json.dumps({name: getattr(self, name) for name in _META}, sort_keys=True).encode()
        if len(meta) > _MAX_META:
            raise ValueError(f"config takes {len(meta)} bytes of JSON, at most {_MAX_META} can be saved")
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        archive.write(path, {**arrays, "meta": np.frombuffer(meta, np.uint8)})

    @classmethod
    def load(cls, path: str | os.PathLike, num_examples: int | None = None) -> Poisons:
        """Reads what `save` wrote, or another program's `np.savez`, trusting nothing in it.

        The latter has `x` and `y`, perhaps `base` (without: inserted, -1), `target_x`, `target_y`, `intended_y`, as
        described above but of any numeric dtype, and no checksum. Ours finds damage; it does not prove who wrote the
        file.

        num_examples: the size of the training set, which only a file of ours says; None: up to the largest `base`.

        Raises:
          ValueError: one line, if the file is damaged, malicious or something else. OSError: it cannot be opened.
        """
        plain = {name: name in ("x", "y") for name in _ARRAYS}
        arrays = archive.read(path, [*_ARRAYS, "meta"], plain)
        try:
            if "meta" not in arrays:
                return _foreign(cls, arrays, num_examples)
            return cls(**_parse(arrays.pop("meta")), **arrays)
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{str(path)!r} is not a valid poisons file: {files.reason(error)}") from None


def _foreign(cls, arrays, num_examples):
    base = np.atleast_1d(arrays.pop("base", np.full(len(arrays["y"]), -1)))
    if num_examples is None:
        num_examples = 1 + int(base.max(initial=-1))
    for name in {"x", "target_x"} & arrays.keys():
        if arrays[name].dtype != np.uint8:
            arrays[name] = arrays[name].astype(np.float32)
            if arrays[name].size and not (arrays[name].min() >= 0 and arrays[name].max() <= 1):
                low, high = arrays[name].min(), arrays[name].max()
                raise ValueError(f"{name} must be uint8 or lie within [0, 1], got {low} to {high}")
    return cls(base=base, num_examples=num_examples, **arrays)


def _parse(raw):
    if raw.dtype != np.uint8 or raw.ndim != 1 or raw.size > _MAX_META:
        raise ValueError(f"meta must be at most {_MAX_META} bytes of JSON, got {raw.dtype} {list(raw.shape)}")
    meta = json.loads(raw.tobytes().decode("utf-8"))
    if not isinstance(meta, dict) or sorted(meta) != sorted(_META):
        raise ValueError(f"meta must have exactly the keys {sorted(_META)}, got others")
    return meta


def _read_only(array):
    array = np.ascontiguousarray(array).view()
    array.flags.writeable = False
    return array


def _examples(name, value):
    value = np.asarray(value)
    if value.dtype not in (np.float32, np.uint8) or value.ndim < 2:
        found = f"{value.dtype} {list(value.shape)}"
        raise ValueError(f"{name} must be float32 or uint8 [K, *input_shape], got {found}")
    if value.dtype == np.float32 and not np.isfinite(value).all():
        raise ValueError(f"{name} must hold finite values, got some that are not")
    return _read_only(value)


def _integers(name, value, length, low, high, dtype):
    value = np.asarray(value)
    if value.size == 0:
        value = value.astype(dtype)
    if value.shape != (length,) or value.dtype.kind not in "iu":
        raise ValueError(f"{name} must be {length} integers, got {value.dtype} {list(value.shape)}")
    if length and not (low <= value.min() and value.max() <= high):
        raise ValueError(f"{name} must lie within [{low}, {high}], got {value.min()} to {value.max()}")
    return _read_only(value.astype(dtype))
