"""One page of a study: HTML that needs no network, to be read by eye, keyboard or screen reader, by day or night."""

from __future__ import annotations

import base64
import datetime
import hashlib
import math

import numpy as np

from tfshape.evaluation import columns
from tfshape.reporting import assets, charts, escaping, images, tables

MOST_VICTIMS = 2000  # rows of trained models in the page; the files have all
_FILTERED = 8  # rows from which a table has a filter


def page(material):
    """The HTML text of a report on a `Material`."""
    sections = [part for part in (section(material) for section in SECTIONS) if part is not None]
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title, _ in sections)
    body = "".join(
        f'<section aria-labelledby="{name}"><h2 id="{name}" tabindex="-1">{title}</h2>{text}</section>'
        for name, title, text in sections
    )
    sources = f"style-src {_hash(assets.STYLE)}; script-src {_hash(assets.SCRIPT)}; img-src data:"
    policy = f"default-src 'none'; {sources}; base-uri 'none'; form-action 'none'"
    name = escaping.html(material.folder.resolve().name)
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{name}: tfshape report</title><link rel="icon" href="data:,"><style>{assets.STYLE}</style></head>'
        "<body>"
        f'<a class="skip" href="#summary">Skip to the results</a><header><h1>{name}</h1>{_caption(material)}'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header><main>{body}</main>{_footer(material)}'
        f"<script>{assets.SCRIPT}</script></body></html>\n"
    )


def caption(material):
    """What was run, in a line or two."""
    s = material.summary

    def several(name):
        found = [str(value) for value in s[name].dropna().unique()]
        return ", ".join(found) if len(found) <= 4 else f"{len(found)} {name}s"

    words = f"{several('attack')} on {several('dataset')}: {several('model')}, {several('scenario')}, "
    words += f"{several('knowledge')}. "
    poisons, sizes = sorted(s["num_poisons"].unique()), sorted(s["num_examples"].unique())
    words += (
        f"{', '.join(f'{n:,}' for n in poisons)} of {', '.join(f'{n:,}' for n in sizes)} training examples poisoned"
    )
    if material.targeted and s["eps"].notna().any():
        words += f", eps {', '.join(f'{eps:.4f}' for eps in s['eps'].dropna().unique())}"
    state = ", ".join(f"{count:,} {name}" for name, count in material.counts.items())
    deltas = ", ".join(f"{delta:g}" for delta in s["delta"].dropna().unique())
    return f"{words}. Trials: {state}. Intervals are of 95%; epsilon is at delta {deltas}."


def verdicts(material):
    """What the rows show, of each point in words: a list of strings, the answer that a reader came for."""
    s, found = material.summary, {}
    if "verdict" not in s:
        return []
    for _, row in s[s["verdict"].notna()].iterrows():
        values = [f"{name[5:].replace('_', ' ')} {columns.plain(row[name])}" for name in tables.axes(s)]
        if row["defense"] != "none" or row["verdict"] not in found:
            found[row["verdict"]] = ", ".join(values)
    return [f"{where}: {words}" if where else words for words, where in found.items()]


def _caption(material):
    answers = "".join(f'<p class="verdict">{escaping.html(words)}</p>' for words in verdicts(material))
    return f'{answers}<p class="soft">{escaping.html(caption(material))}</p>'


def _summary(material):
    table = tables.summary(material.summary)
    text = (
        "<p>A row a defense, with and without the attack on the same seeds. <em>Control</em> is the success rate "
        "without the attack; <em>ceiling</em> is what no attacker with so many poisons can exceed, as far as the "
        "privacy promises. Epsilon holds for batches drawn as the table says, and for one training.</p>"
    )
    return "summary", "Results", text + html_table("Results, a row a defense", table)


def _plane(material):
    words = "robustness: 1 - attack success rate" if material.targeted else "robustness: test accuracy under attack"
    points = []
    for number, (_, row) in enumerate(material.summary.iterrows(), 1):
        x = _interval(row, "control_accuracy")
        y = _interval(row, "asr" if material.targeted else "accuracy")
        if x is None or y is None:
            continue
        y = tuple(1 - value for value in reversed(y)) if material.targeted else y
        about = f"{number}: {tables.defense(row['defense'])}, {row['num_poisons']:,} poisons: "
        about += f"utility {x[1]:.3f}, robustness {y[1]:.3f}, epsilon {tables.epsilon(row['epsilon'])}"
        points.append({"number": number, "words": about, "epsilon": row["epsilon"], "x": x, "y": y})
    if not points:
        return None
    keys = "".join(
        f'<li class="level{i}"><svg class="key" viewBox="0 0 24 24" aria-hidden="true">'
        f"{charts.marker(i, 12, 12, 8)}</svg>epsilon {text}</li>"
        for i, (_, text) in enumerate(charts.LEVELS)
    )
    figure = (
        f'<div class="charts"><figure>{charts.plane(points, words)}<ul class="legend">{keys}</ul>'
        "<figcaption>Numbers are those of the rows above; + is one with more at its place. Up and to the right is "
        "better.</figcaption></figure></div>"
    )
    return "plane", "Robustness, utility and epsilon", figure


def _interval(row, name):
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if math.isnan(value):
        return None
    return (value, value, value) if math.isnan(low) else (max(low, 0.0), value, min(high, 1.0))


def _cost(material):
    table = tables.cost(material.costs)
    if table is None:
        return None
    columns = ("num_poisons", "asr", "asr_low", "asr_high")
    found = [(words, *(rows[name].tolist() for name in columns)) for words, rows in tables.curves(material.summary)]
    found = [
        (words, counts, rates, *([r if math.isnan(v) else v for r, v in zip(rates, ends)] for ends in (lows, highs)))
        for words, counts, rates, lows, highs in found
    ]
    keys = "".join(f"<li>{charts.swatch(i)}{escaping.html(words)}</li>" for i, (words, *_) in enumerate(found))
    return (
        "cost",
        "What success costs the attacker",
        "<p>A target's cost is the least number of poisons that succeeded. The median over targets is more than the "
        "largest number tried where half of them or more withstood that.</p>"
        f'<div class="charts"><figure>{charts.curves(found)}<ul class="legend">{keys}</ul></figure></div>'
        + html_table("Least number of poisons", table),
    )


def _artifacts(material):
    table = tables.artifacts(material.artifacts, material.summary)
    if table is None:
        return None
    text = (
        "<p>Of the first trial's poison, in an undefended victim before it trains and after an epoch. <em>Norm "
        "ratio</em>: mean gradient norm of poison over that of clean examples. <em>Ratio of means</em>: norm of the "
        "mean poison gradient over that of as many clean ones. <em>Cosine</em>: between these means. <em>Share</em>: "
        "what the poison contributes to the update of a batch that is half poison.</p>"
    )
    return "artifacts", "Gradient artifacts", text + html_table("Gradients of poison beside clean ones", table)


def _pictures(material):
    groups = [(words, arrays) for words, arrays in material.pictures if arrays["poison"].ndim == 4]
    if not groups:
        return None
    parts = []
    for words, arrays in groups:
        made = arrays["base_label"] >= 0
        change = np.where(made.reshape(-1, 1, 1, 1), arrays["poison"] - arrays["base"], 0)
        large, factor = images.amplified(change)
        shots = []
        for i, poison in enumerate(arrays["poison"]):
            label, shown = int(arrays["poison_label"][i]), []
            if made[i]:
                base = int(arrays["base_label"][i])
                shown.append((arrays["base"][i], f"base {i + 1}, a training example of class {base}"))
                if change.any():
                    alt = f"perturbation of poison {i + 1}, amplified {factor} times around grey"
                    shown.append((large[i], alt))
            shown.append((poison, f"poison {i + 1}, labelled {label}"))
            origin = f"class {int(arrays['base_label'][i])} → label {label}" if made[i] else f"new, label {label}"
            shots.append(_shot(shown, f"{i + 1}: {origin}"))
        for i, target in enumerate(arrays["target"]):
            true, wanted = int(arrays["target_label"][i]), int(arrays["intended_label"][i])
            shots.append(_shot([(target, f"target of class {true}, wanted as {wanted}")], f"target: {true} → {wanted}"))
        parts.append(f'<h3>{escaping.html(words)}</h3><div class="shots">{"".join(shots)}</div>')
        order = f"Base, perturbation amplified {factor} times around mid grey, poison."
        order = (
            order if change.any() else "Nothing but labels is changed: base and poison." if made.any() else "Poison."
        )
        parts.append(f'<p class="soft">{order}</p>')
    return "pictures", "Poison to look at", "".join(parts)


def _shot(shown, words):
    shown = "".join(f'<img src="{images.data_uri(image)}" alt="{escaping.html(alt)}">' for image, alt in shown)
    return f"<figure><div>{shown}</div><figcaption>{escaping.html(words)}</figcaption></figure>"


def _failures(material):
    table = tables.failures(material.failed)
    return None if table is None else ("failures", "Failed trials", html_table("Trials that failed", table))


def _victims(material):
    table = tables.victims(material.victims.head(MOST_VICTIMS))
    left = len(material.victims) - MOST_VICTIMS
    text = f"<p>{left:,} more stand in the files.</p>" if left > 0 else ""
    details = f"<details><summary>{len(table.rows):,} trained models, a row each</summary>"
    return "victims", "Every trained model", text + details + html_table("Trained models", table) + "</details>"


SECTIONS = (_summary, _plane, _cost, _artifacts, _pictures, _failures, _victims)


def html_table(words, table):
    """A table that sorts by its headings and, where it is long, has a filter."""
    heads = "".join(
        f'<th scope="col" aria-sort="none"><button type="button">{escaping.html(name)}</button></th>'
        for name in table.columns
    )
    heads += '<th scope="col">command</th>' if table.commands else ""
    commands = table.commands or [None] * len(table.rows)
    rows = "".join(
        f"<tr>{''.join(map(_cell, row))}{_command(command)}</tr>" for row, command in zip(table.rows, commands)
    )
    filter_, name = "", escaping.html(words)
    if len(table.rows) >= _FILTERED:
        filter_ = (
            f'<div class="filter"><label>Filter rows of “{name}” '
            '<input type="search" autocomplete="off"></label><span class="soft" role="status"></span></div>'
        )
    return (
        f'<div data-table>{filter_}<div class="scroll" role="region" tabindex="0" aria-label="{name}"><table>'
        f"<caption>{name}. A heading sorts.</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
        "</table></div></div>"
    )


def _cell(cell):
    value = "" if cell.value is None else f' data-value="{cell.value!r}"'.replace("inf", "Infinity")
    long = ' class="long"' if len(cell.text) > 60 else ""
    bar = ""
    if cell.span is not None:
        low, middle, high = (100 * number for number in cell.span)
        band = f'<rect class="range" x="{low:.1f}" y="2" width="{max(high - low, 0.5):.1f}" height="5"/>'
        mark = f'<rect class="mark" x="{middle - 1:.1f}" y="0" width="2" height="9"/>'
        bar = f'<svg class="bar" viewBox="0 0 100 9" preserveAspectRatio="none" aria-hidden="true">{band}{mark}</svg>'
    return f"<td{value}{long}>{escaping.html(cell.text)}{bar}</td>"


def _command(command):
    if command is None:
        return ""
    return f"<td><details><summary>show</summary><code>{escaping.html(command)}</code></details></td>"


def _footer(material):
    made = material.made
    versions = made.get("versions")
    versions = versions.items() if isinstance(versions, dict) else ()
    versions = ", ".join(f"{name} {value}" for name, value in versions if value)
    words = f"Made {datetime.date.today()} from {material.folder} by tfshape. {versions}; "
    words += f"git {made.get('git') or 'unknown'}; {made.get('platform', '')}."
    return f"<footer>{escaping.html(words)}</footer>"


def _hash(text):
    """How a Content-Security-Policy names the one inline text that it allows."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
