"""One list of columns: what is in it is printed, written, reported and documented, and nothing else is."""

import importlib.util
import math
import pathlib

import numpy as np
import pandas as pd
import pytest
from test_results_files import row

import tfshape as ts
from tfshape import reporting
from tfshape.evaluation import columns, records, statistics
from tfshape.evaluation.results import Results
from tfshape.reporting.files import markdown
from tfshape.reporting.page import page

pytestmark = pytest.mark.one_stack

ROOT = pathlib.Path(__file__).parents[2]
EXPERIMENT = ts.Experiment(
    attack="gradient_matching", dataset="digits", model="lr", num_poisons=5, trials=3, batch_size=50
)


def targeted(trial, defense, data, success, **more):
    aim = {"target_index": 7, "true_label": 1, "intended_label": 2, "predicted_label": 2 if success else 1}
    return row(trial, defense=defense, data=data, success=success, **aim, **more)


def written(folder):
    """Results of three trials, with one undefended and one shaped victim in each."""
    results = Results(EXPERIMENT, folder, {"git": "abc"})
    shaped = {"engine": "fast", "sampling": "poisson", "epsilon": 2.5, "epsilon_if_poisson": 2.5}
    for trial in range(3):
        for data in ("poison", "control"):
            won = data == "poison"
            results.add(targeted(trial, "none", data, won))
            results.add(targeted(trial, "clip(1.0)|noise(1.0)", data, won and trial == 0, **shaped))
    return results


def pages(text):
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs/hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    return hooks.on_page_markdown(text)


def prevented(defense):
    """Of how many more trials in ten the undefended victim was poisoned, in pairs."""
    undefended = [victim for victim in defense.undefended if victim.data == "poison"]
    found = [10.0 * (theirs.success - ours.success) for ours, theirs in records.pairs(defense.poison, undefended)]
    return (float(np.mean(found)), *statistics.mean_interval(found))


def test_a_column_is_one_entry(tmp_path, monkeypatch):
    entry = columns.Column("prevented", "What the defense prevents.", "in ten", of=prevented, interval=True, form=".1f")
    monkeypatch.setattr(columns, "COLUMNS", (*columns.COLUMNS, entry))
    results = written(tmp_path)
    none, shaped = ("0.0 [0.000, 0.000]", "6.7 [-7.676, 21.009]")
    frame = pd.read_csv(tmp_path / "results.csv")
    assert frame["prevented"].tolist() == pytest.approx([0, 20 / 3])
    assert {"prevented_low", "prevented_high"} <= {*frame}
    assert results.table()["in ten"].tolist() == [none, shaped]  # of bin/evaluate
    assert columns.text_table(frame, columns.REPORT)["in ten"].tolist() == [none, shaped]  # of bin/sweep
    material = reporting.read(tmp_path)
    paths = reporting.write(material, tmp_path / "report")
    assert pd.read_csv(paths[2])["in ten"].tolist() == [none, shaped]
    for text in (page(material), markdown(material)):
        assert "in ten" in text and shaped in text
    assert "| `prevented`, `prevented_low`, `prevented_high` | in ten | What the defense prevents. |" in pages(
        "{{columns}}"
    )


def test_a_column_of_your_own_has_a_name_of_its_own(monkeypatch):
    monkeypatch.setattr(columns, "COLUMNS", columns.COLUMNS)
    mine = columns.register(columns.Column("seed_squared", "The seed times itself.", of=lambda defense: 1))
    assert columns.COLUMNS[-1] is mine
    for name in ("seed_squared", "asr", "asr_low"):
        with pytest.raises(ValueError, match=f"^name must be one that no other column has, got '{name}'$"):
            columns.register(columns.Column(name, "Taken."))


def test_the_page_of_files_has_every_column():
    text = pages((ROOT / "docs/reference/files.md").read_text("utf-8"))
    assert "{{columns}}" not in text
    for column in columns.COLUMNS:
        assert f"`{column.name}`" in text and column.meaning.endswith(".") and "|" not in column.meaning


def test_a_folder_written_before_there_was_a_column_is_read(tmp_path, monkeypatch):
    written(tmp_path)
    entry = columns.Column("later", "A later version's.", "later", of=lambda defense: 1.0)
    monkeypatch.setattr(columns, "COLUMNS", (*columns.COLUMNS, entry))
    assert "| later |" not in markdown(reporting.read(tmp_path))


def test_poison_that_was_saved_is_reported(tmp_path):
    results = Results(EXPERIMENT, tmp_path, {})
    results.add({**targeted(0, "none", "poison", True), "count": None, "attack": "foreign"})
    material = reporting.read(tmp_path)
    assert material.victims["count"].tolist() == [5] and "foreign on digits" in markdown(material)


def test_nothing_is_promised_and_no_column_shown_without_privacy(tmp_path):
    shown = written(tmp_path).table()
    assert shown["ceiling"].tolist() == ["", "1.000"] and "if Poisson" not in shown and "poisons" not in shown
    assert shown["attack success rate"].tolist()[0].startswith("3/3 [")
    assert list(shown)[:3] == ["defense", "test accuracy", "without attack"] and "accuracy lost" not in shown


@pytest.mark.parametrize(("value", "words"), [(0.5, "0.50"), (999.0, "999.00"), (1555.0, "1.6e+03"), (math.inf, "inf")])
def test_epsilon_in_words(value, words):
    assert columns.epsilon(value) == words


def test_no_result_is_no_table():
    assert Results(EXPERIMENT).table().empty and columns.text_table(pd.DataFrame()).empty
