"""The page in a real browser, where one is found: nothing goes wrong, tables sort and filter, pictures load."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess

import pytest
from reporting_helpers import write_study

from tfshape import reporting
from tfshape.reporting.page import page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WATCH = "<script>window.wrong = []; window.onerror = (words) => { window.wrong.push(String(words)); };</script>"
FRAME = """<!DOCTYPE html><style>:root {{ color-scheme: light dark }}</style><pre id="probe"></pre><script>
window.addEventListener("message", (event) => {{ document.getElementById("probe").textContent = event.data; }});
</script><iframe src="page.html" width="{}" height="900" style="border: 0"></iframe>"""
PROBE = """<script>
window.addEventListener("load", () => {
  const box = document.querySelector("[data-table]");
  const head = [...box.querySelectorAll("th")].find((th) => th.textContent.startsWith("attack success rate"));
  const rows = () => [...box.querySelectorAll("tbody tr")];
  const column = () => rows().map((row) => Number(row.cells[head.cellIndex].dataset.value));
  const seen = {wrong: window.wrong, width: innerWidth, wide: document.documentElement.scrollWidth};
  seen.before = [head.getAttribute("aria-sort"), column()];
  head.querySelector("button").click();
  seen.up = [head.getAttribute("aria-sort"), column()];
  head.querySelector("button").click();
  seen.down = [head.getAttribute("aria-sort"), column()];
  const epsilon = [...box.querySelectorAll("th")].find((th) => th.textContent.startsWith("epsilon"));
  epsilon.querySelector("button").click();
  seen.others = [...box.querySelectorAll("th[aria-sort]")].map((th) => th.getAttribute("aria-sort"));
  seen.epsilons = rows().map((row) => row.cells[epsilon.cellIndex].textContent);
  const input = box.querySelector("input");
  input.value = "noise(1.0) 100";
  input.dispatchEvent(new Event("input"));
  seen.shown = rows().filter((row) => !row.hidden).map((row) => row.cells[0].textContent);
  seen.said = box.querySelector("[role=status]").textContent;
  seen.pictures = [...document.images].map((image) => image.complete && image.naturalWidth);
  const style = getComputedStyle(document.body);
  seen.colours = [style.color, style.backgroundColor];
  const used = [...document.querySelectorAll("a, button, input, summary, [role=region]")];
  seen.focus = used.every((element) => element.tabIndex >= 0);
  parent.postMessage(JSON.stringify(seen), "*");
});
</script>"""

needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on the path")


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), pytest.param(390, True, marks=pytest.mark.slow)])
def test_in_a_browser(tmp_path, width, dark):
    text = page(reporting.read(write_study(tmp_path / "study")))
    allowed = base64.b64encode(hashlib.sha256(PROBE[len("<script>") : -len("</script>")].encode()).digest()).decode()
    assert text.count("script-src '") == 1
    text = text.replace("script-src '", f"script-src 'sha256-{allowed}' '")
    text = text.replace("<head>", f"<head>{WATCH}", 1).replace("</body>", f"{PROBE}</body>", 1)
    (tmp_path / "page.html").write_text(text, "utf-8")
    (tmp_path / "frame.html").write_text(FRAME.format(width), "utf-8")  # a window cannot be as narrow as a telephone
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1000"]
    options += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run(
        [BROWSER, *options, (tmp_path / "frame.html").as_uri()], capture_output=True, text=True, timeout=300
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    seen = json.loads(html.unescape(re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)[1]))
    assert seen["wrong"] == [] and seen["width"] == width and seen["wide"] <= width
    rates = [0.4, 0.1, 0.0, 0.0, 0.9, 0.6, 0.2, 0.1]
    for name, order, expected in (
        ("before", "none", rates),
        ("up", "ascending", sorted(rates)),
        ("down", "descending", sorted(rates, reverse=True)),
    ):
        assert seen[name] == [order, pytest.approx(expected)]
    assert sorted(set(seen["others"])) == ["ascending", "none"] and seen["others"].count("ascending") == 1
    assert seen["epsilons"] == ["0.30", "0.30", "2.90", "2.90", "∞", "∞", "∞", "∞"]
    assert seen["shown"] == ["7"] and seen["said"] == "1 of 8 rows"
    assert len(seen["pictures"]) == 16 and all(seen["pictures"]) and seen["focus"]
    ink, paper = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in seen["colours"])
    assert (ink > 600 and paper < 150) if dark else (ink < 150 and paper > 600)
