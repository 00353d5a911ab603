"""What a report says of a study's files."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib import image as files
from reporting_helpers import HOSTILE, write_study

from tfshape import reporting
from tfshape.reporting import charts, images, tables
from tfshape.reporting.page import caption, page


@pytest.fixture
def material(tmp_path):
    return reporting.read(write_study(tmp_path / "a study"))


def test_three_files_with_every_row(material, tmp_path):
    paths = reporting.write(material, tmp_path / "out")
    assert [path.name for path in paths] == ["report.html", "report.md", "report.csv"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in paths}
    frame = pd.read_csv(tmp_path / "out" / "report.csv")
    assert len(frame) == 8 and frame["attack success rate"][4] == "9/10 [0.600, 1.000]"
    assert frame["epsilon"].tolist()[:4] == ["∞", "∞", "2.90", "0.30"]
    assert frame["ceiling"].isna().tolist() == [True, True, False, False] * 2  # nothing is promised without privacy
    assert "adaptive" not in frame and "engine" not in frame and "#" in frame
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "| 7 | 100 | clip(1.0)\\|noise(1.0) |" in text and "gradient_matching on name: name" in text
    assert text.count("    bin/evaluate '--shaping=") == 8 and "| undefended | 55 | > 100 in 1 of 10 |" in text
    assert "11 done, 1 failed" in caption(material) and "10, 100 of 6,000" in caption(material)


def test_the_page_stands_alone_and_takes_nothing_for_markup(material):
    text = page(material)
    assert not re.search(r'(src|href)="(?!data:|#)', text) and "@import" not in text and "url(" not in text
    assert text.count("<script>") == 1 and "&lt;script&gt;alert(1)" in text
    assert HOSTILE not in text and "&lt;b&gt;clip&lt;/b&gt;&amp;(1.0)" in text
    assert 'lang="en"' in text and "prefers-color-scheme: dark" in text and "default-src 'none'" in text
    heads = re.findall(r"<th [^>]*>", text)
    assert heads and all('scope="col"' in head for head in heads)
    assert text.count("<caption>") == text.count("<table>") == text.count('role="region" tabindex="0"')
    alts = re.findall(r'<img src="data:image/png;base64,[^"]+" alt="([^"]*)"', text)
    assert len(alts) == text.count("<img ") == 2 * (2 * 3 + 1 + 1) and all(alts)
    assert "perturbation of poison 2, amplified 5 times around grey" in alts
    assert text.count('role="img" aria-label="') == 2
    for words in ("0.1.0", "git abc", "target: 4 → 5", "new, label 2", "1: class 0 → label 0"):
        assert words in text


def test_what_is_not_there_is_left_out(material, tmp_path):
    flat = reporting.read(write_study(tmp_path / "flat", images=False))
    assert "Poison to look at" not in page(flat) and "<img" not in page(flat)
    for _, arrays in flat.pictures:
        arrays["poison"] = arrays["base"] = np.full((3, 4, 4, 1), 0.5, np.float32)
        arrays["target"] = arrays["target"][:0]
    text = page(flat)
    assert (
        "Nothing but labels is changed" in text and "amplified" not in text and text.count("<img ") == 2 * (2 + 2 + 1)
    )
    one = material
    one.summary = one.summary[one.summary["num_poisons"] == 10]
    one.artifacts, one.failed, one.costs = pd.DataFrame(), one.failed.head(0), pd.DataFrame()
    text = page(one)
    for words in ("What success costs", "Gradient artifacts", "Failed trials"):
        assert words not in text
    none = one.summary.assign(asr=np.nan, asr_low=np.nan, asr_high=np.nan, successes=np.nan, eps=np.nan)
    one.summary = none
    assert "robustness: test accuracy under attack" in page(one) and "worst class" in page(one)


def test_cost_is_what_the_files_say(material):
    found = tables.cost(material.costs).frame()
    assert found["defense"].tolist() == ["undefended", HOSTILE, "clip(1.0)|noise(1.0)", "clip(1.0)|noise(9.0)"]
    assert found["median cost"].tolist() == ["55", "100", "> 100", "> 100"]
    assert found["withstood"].tolist()[:2] == ["> 100 in 1 of 10", "> 100 in 4 of 10"]


@pytest.mark.parametrize(("epsilon", "level"), [(0.3, 0), (1.0, 1), (9.9, 1), (10.0, 2), (1e6, 2), (np.inf, 3)])
def test_levels_of_epsilon(epsilon, level):
    assert charts.level(epsilon) == level


def test_pictures_are_what_they_show():
    image = np.linspace(0, 1, 24).reshape(4, 6, 1)
    uri = images.data_uri(image)
    read = files.imread(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    np.testing.assert_allclose(read[..., 0], image[..., 0], atol=2 / 255)
    change = np.array([0.1, -0.05, 0.0])
    large, factor = images.amplified(change)
    assert factor == 5
    np.testing.assert_allclose(large, [1.0, 0.25, 0.5])
    assert images.amplified(np.zeros(3))[1] == 1 and images.amplified(np.array([0.8]))[1] == 1


def test_a_folder_without_results_is_refused_in_a_line(tmp_path):
    with pytest.raises(
        ValueError, match=r"^study must be a folder that bin/sweep or bin/evaluate wrote, with results.csv, got"
    ):
        reporting.read(tmp_path)
