"""The style and the script of a report's page, which needs nothing else."""

STYLE = """
:root { color-scheme: light dark; --page: #fcfcfb; --ink: #1d2125; --soft: #5a626b; --line: #d8dce0; --band: #eef1f4;
  --accent: #0b5cad; --mark: #0b5cad; --range: #a9cbee; --s0: #0b5cad; --s1: #b3480a; --s2: #17734a; --s3: #8a2b86;
  --s4: #8a6d00; --s5: #4b5563; --e0: #0b3d75; --e1: #2f76bd; --e2: #7fb2e5; --in0: #fff; --in1: #fff; --in2: #10233a; }
@media (prefers-color-scheme: dark) { :root { --page: #15181c; --ink: #e8eaed; --soft: #a8b0b9; --line: #383f47;
  --band: #20252b; --accent: #8cc2ff; --mark: #8cc2ff; --range: #2d557f; --s0: #8cc2ff; --s1: #ffab70; --s2: #6fd6a5;
  --s3: #e9a1e6; --s4: #e5cb5b; --s5: #b8c0ca; --e0: #cfe6ff; --e1: #6fb0f2; --e2: #2f6299; --in0: #10233a;
  --in1: #10233a; --in2: #fff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main, header, footer { max-width: 1240px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 28px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; overflow-wrap: anywhere; }
p, ul { max-width: 75ch; margin: .4rem 0 .8rem; }
a { color: var(--accent); }
.soft, footer { color: var(--soft); }
.verdict { font-size: 1.15em; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 12px; top: 8px; background: var(--page); padding: 6px 10px; z-index: 9; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; list-style: none; padding: 0;
  margin: .8rem 0 0; max-width: none; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; max-height: 80vh; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .6rem .7rem; color: var(--soft); }
th, td { text-align: left; padding: .4rem .7rem; border-top: 1px solid var(--line); vertical-align: top; }
td { white-space: nowrap; }
td.long { white-space: normal; min-width: 22ch; }
thead th { position: sticky; top: 0; background: var(--band); white-space: nowrap; z-index: 1; }
th button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: 0; cursor: pointer;
  text-align: left; }
th button::after { content: " ↕"; color: var(--soft); }
th[aria-sort=ascending] button::after { content: " ↑"; color: inherit; }
th[aria-sort=descending] button::after { content: " ↓"; color: inherit; }
tbody tr:nth-child(even) { background: var(--band); }
.filter { display: flex; flex-wrap: wrap; gap: .4rem .8rem; align-items: center; margin: .5rem 0; }
.filter input { font: inherit; padding: .3rem .5rem; border: 1px solid var(--soft); border-radius: 5px;
  background: var(--page); color: var(--ink); width: 18rem; max-width: 100%; }
.bar { display: block; width: 100%; min-width: 110px; height: 9px; margin-top: 4px;
  border-bottom: 1px solid var(--line); }
.bar .range { fill: var(--range); } .bar .mark { fill: var(--mark); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 1.2rem; }
.charts figure, .shots figure { margin: 0; }
.chart { width: 100%; max-width: 600px; height: auto; display: block; }
.chart text { fill: var(--ink); font: 13px system-ui, sans-serif; }
.chart text.in { font-size: 12px; font-weight: 600; }
.chart text.small { font-size: 10px; }
.grid { stroke: var(--line); stroke-width: 1; }
.whisker { stroke: var(--soft); stroke-width: 1.2; opacity: .7; }
.level0 circle { fill: var(--e0); } .level0 text.in { fill: var(--in0); }
.level1 rect { fill: var(--e1); } .level1 text.in { fill: var(--in1); }
.level2 polygon { fill: var(--e2); } .level2 text.in { fill: var(--in2); }
.level3 circle { fill: var(--page); stroke: var(--ink); stroke-width: 2; }
[class*=series] polyline { fill: none; stroke: currentColor; stroke-width: 2.2; }
[class*=series] circle { fill: currentColor; }
[class*=series] .whisker { stroke: currentColor; }
.series0 { color: var(--s0); } .series1 { color: var(--s1); } .series2 { color: var(--s2); }
.series3 { color: var(--s3); } .series4 { color: var(--s4); } .series5 { color: var(--s5); }
.series1 polyline { stroke-dasharray: 7 4; } .series2 polyline { stroke-dasharray: 2 4; }
.series3 polyline { stroke-dasharray: 10 3 2 3; } .series4 polyline { stroke-dasharray: 4 3; }
.legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .92rem; }
.legend svg { width: 34px; height: 16px; vertical-align: -3px; margin-right: 5px; }
.legend svg.key { width: 18px; }
.shots { display: grid; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); gap: 1rem; }
.shots div { display: flex; gap: 4px; }
.shots img { width: 86px; height: auto; image-rendering: pixelated; border: 1px solid var(--line); }
figcaption { font-size: .88rem; color: var(--soft); margin-top: .2rem; }
details summary { cursor: pointer; color: var(--accent); }
details code { display: block; white-space: pre-wrap; overflow-wrap: anywhere; min-width: 28ch; padding: .4rem 0;
  user-select: all; }
code { font: .85rem/1.4 ui-monospace, Menlo, Consolas, monospace; }
footer { padding-top: 1rem; padding-bottom: 3rem; margin-top: 2.5rem; font-size: .88rem; overflow-wrap: anywhere; }
@media print { .filter, nav, .skip { display: none; } .scroll { max-height: none; overflow: visible; } }
"""

SCRIPT = """
"use strict";
for (const box of document.querySelectorAll("[data-table]")) {
  const body = box.querySelector("tbody"), rows = [...body.rows], heads = [...box.querySelectorAll("th[aria-sort]")];
  const input = box.querySelector("input"), said = box.querySelector("[role=status]");
  const value = (row, at) => row.cells[at].dataset.value ?? row.cells[at].textContent.trim();
  const compare = (a, b) => {
    if (a === "" || b === "") return a === b ? 0 : a === "" ? 1 : -1;
    const x = Number(a), y = Number(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  heads.forEach((head) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending", at = head.cellIndex;
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const filled = rows.filter((row) => value(row, at) !== ""), empty = rows.filter((row) => value(row, at) === "");
    filled.sort((a, b) => (down ? -1 : 1) * compare(value(a, at), value(b, at)));
    body.append(...filled, ...empty);
  }));
  const filter = () => {
    const words = input.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    said.textContent = `${shown} of ${rows.length} rows`;
  };
  if (input) { input.addEventListener("input", filter); filter(); }
}
"""
