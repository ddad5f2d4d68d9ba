"""The page in a real browser, without a network: it sorts, filters, explores and opens runs, and executes no label."""

import html
import json
import re
import shutil
import subprocess

import pytest
import report_fakes as fakes

from bench.report import write

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"
SCENE = {"things": [{"colour": "red", "shape": HOSTILE, "cell": 4}, {"colour": HOSTILE, "shape": "ring", "cell": 0}]}
#: a picture of one pixel
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
CLIP = {"events": [{"words": HOSTILE, "seconds": [0, 1.5]}], "place": HOSTILE}
SCRIPT = """
<script>
const outcome = {alerts: 0, errors: []};
window.alert = () => { outcome.alerts += 1; };
window.addEventListener('error', event => outcome.errors.push(event.message));
window.addEventListener('load', () => setTimeout(() => {
  const table = [...document.querySelectorAll('figure.table table')].find(t => t.innerText.includes('VQAv2 Acc.')
    && t.innerText.includes('lora') && !t.innerText.includes('−'));
  const labels = () => [...table.tBodies[0].rows].filter(r => !r.hidden).map(r => r.cells[0].innerText);
  const sort = table.tHead.querySelectorAll('button')[2];
  outcome.planned = labels();
  sort.focus();
  outcome.focused = document.activeElement === sort;
  sort.click();
  outcome.sorted = labels();
  sort.click();
  outcome.reversed = labels();
  const figure = table.closest('figure'), filter = figure.querySelector('input[type=search]');
  filter.value = 'lora vl-pet-large';
  filter.dispatchEvent(new Event('input'));
  outcome.filtered = labels();
  const box = figure.querySelectorAll('.columns input')[0];
  box.click();
  outcome.hidden = table.tHead.rows[0].cells[1].hidden;
  outcome.copies = Object.keys(JSON.parse(figure.querySelector('script').textContent).texts);
  const explorer = document.getElementById('explorer'), select = explorer.querySelector('select');
  const dots = () => explorer.querySelectorAll('svg')[0].querySelectorAll('circle');
  const before = dots()[0].getAttribute('cx') + dots()[1].getAttribute('cx');
  select.value = 'step_seconds';
  select.dispatchEvent(new Event('change'));
  outcome.points = dots().length;
  outcome.moved = before !== dots()[0].getAttribute('cx') + dots()[1].getAttribute('cx');
  outcome.named = dots()[0].querySelector('title').textContent;
  const panel = document.getElementById('predictions-panel'), cards = () => panel.querySelectorAll('article');
  outcome.cards = cards().length;
  outcome.text = cards()[0].innerText;
  outcome.shown = cards()[0].querySelector('.pictures + p').textContent.replace('to be seen: ', '');
  outcome.pictures = [...cards()[0].querySelectorAll('img')].map(image => [image.alt, image.naturalWidth]);
  const which = panel.querySelector('select[aria-label="which examples"]');
  which.value = 'A better than B';
  which.dispatchEvent(new Event('change'));
  outcome.right = cards().length;
  location.hash = '#' + document.querySelector('details.run').id;
  setTimeout(() => {
    outcome.opened = document.querySelector('details.run').open;
    outcome.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    outcome.width = document.documentElement.clientWidth;
    const result = document.createElement('pre');
    result.id = 'outcome';
    result.textContent = JSON.stringify(outcome);
    document.body.append(result);
  }, 200);
}, 100));
</script>
"""


def run_details(run_id: str, **changes):
    """What the page is told of a run."""
    scores = [{"task": "vqa", "score": 64.2, "metrics": {"accuracy": 64.2}}]
    return {"run": run_id, "title": HOSTILE, "state": "done", "scores": scores, "log_tail": HOSTILE, **changes}


AXE = """
<script>
window.addEventListener('load', () => setTimeout(async () => {
  document.querySelectorAll('details').forEach(part => { part.open = true; });
  const result = await axe.run({runOnly: ['wcag2a', 'wcag2aa', 'best-practice']});
  const shown = document.createElement('pre');
  shown.id = 'outcome';
  shown.textContent = JSON.stringify(result.violations.map(v => `${v.id}: ${v.nodes[0].html}`));
  document.body.append(shown);
}, 100));
</script>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    methods = fakes.METHODS | {HOSTILE[:60]: (3.0, 0.5, 40)}
    df, plan = fakes.sweep(methods, suites=["image-text"], seeds=(1, 2, 3))
    failure = {"cause": "error", "phase": "train", "type": "E", "message": HOSTILE, "traceback": HOSTILE, "retry": "x"}
    examples = [
        {
            "id": str(i),
            "source": HOSTILE,
            "visual": ["a.h5"],
            "shows": [SCENE, CLIP],
            "pictures": [PIXEL],
            "reference": HOSTILE,
            "predictions": ["x", HOSTILE],
        }
        | {"scores": [1.0, float(i % 2)]}
        for i in range(6)
    ]
    examples.append(examples[0] | {"id": "without a score", "scores": [1.0, None]})
    predictions = [{"title": HOSTILE, "task": "vqa", "labels": ["lora", HOSTILE], "examples": examples}]
    runs = {cell["run_id"]: run_details(cell["run_id"]) for cell in plan[:3]}
    runs[plan[0]["run_id"]] = run_details(plan[0]["run_id"], failure=failure, state="failed", notes=[HOSTILE])
    folder = tmp_path_factory.mktemp("browser")
    (path, *_) = write(
        HOSTILE[:40], df, plan, folder, fakes.curves(plan, 20), runs=runs, sweep_file=HOSTILE, predictions=predictions
    )
    return path


def outcome_in_browser(page, tmp_path, script: str, *flags: str):
    """Let a script act on the page, and return what it saw."""
    copied = tmp_path / "page.html"
    text = page.read_text(encoding="utf-8")
    copied.write_text(text.replace("<head>", f"<head>{script}", 1), encoding="utf-8")
    always = ["--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom"]
    always += ["--virtual-time-budget=20000", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [CHROMIUM, *always, *flags, copied.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="outcome">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: chromium)")
@pytest.mark.parametrize("width", [500, 1280])  # a headless window is not made narrower than that
def test_the_page_does_what_it_offers_and_nothing_else(page, tmp_path, width):
    seen = outcome_in_browser(page, tmp_path, SCRIPT, f"--window-size={width},900")
    assert seen["alerts"] == 0 and seen["errors"] == []
    assert seen["focused"] and seen["sorted"] != seen["planned"]
    assert seen["sorted"][0] == seen["reversed"][0] == "full"  # kept apart, whatever the order
    assert seen["sorted"][1:] == seen["reversed"][:0:-1]
    assert set(seen["filtered"]) == {"lora", "vl-pet-large", "vl-adapter+vl-pet-large"} and seen["hidden"]
    assert seen["copies"] == ["Markdown", "LaTeX", "CSV"]
    assert seen["points"] == 10 and seen["moved"] and "Training step" in seen["named"]
    assert (
        (seen["cards"], seen["right"]) == (7, 3)
        and seen["pictures"] == [[seen["shown"], 1]]
        and seen["text"].count("<script>alert(1)") >= 3
    )
    assert seen["opened"] and seen["overflow"] <= 0


def test_no_data_ends_a_script(page):
    """Every script element that holds data is JSON, whatever labels are in it."""
    scripts = re.findall(r'<script type="application/json">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(scripts) > 3
    assert all(json.loads(text) and "<" not in text for text in scripts)


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """The source of axe-core, which finds what keeps people from using a page."""
    folder = tmp_path_factory.mktemp("axe")
    if CHROMIUM is None or shutil.which("npm") is None:
        pytest.skip("needs chromium and npm")
    subprocess.run(["npm", "install", "axe-core@4"], cwd=folder, capture_output=True, timeout=100, check=False)
    source = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not source.is_file():
        pytest.skip("npm cannot fetch axe-core")
    return source.read_text(encoding="utf-8").replace("</script>", "<\\/script>")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_no_findings(page, axe, tmp_path, scheme):
    flags = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    assert outcome_in_browser(page, tmp_path, f"<script>{axe}</script>{AXE}", *flags) == []
