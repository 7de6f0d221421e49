"""The report page in a real browser: what a reader does, and what it shows then."""

import inspect
import time

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import nn
from tests.browser.conftest import small_loss
from tests.frontend.report_data import held_in

pytestmark = pytest.mark.browser

MOST_BYTES = 3_000_000
MOST_SECONDS = 2.0


def data_in(path):
    return held_in(path.read_text(encoding="utf-8"))[0]


def heading(page):
    return page.locator("#stop-head h2").inner_text()


def line_of(text):
    lines, first = inspect.getsourcelines(small_loss)
    return first + next(i for i, line in enumerate(lines) if text in line)


def place(page):
    """What stands in the address behind the file."""
    return page.page.url.partition("#")[2]


def test_a_training_step_is_small_and_opens_fast(training_page, open_page):
    assert training_page.stat().st_size < MOST_BYTES
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        page = open_page(training_page)
        page.locator("#picture svg [data-box]").first.wait_for()
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < MOST_SECONDS, seconds
    assert page.locator("#picture [data-box]").count() > 20


def test_stepping_by_keyboard(small_page, open_page):
    page = open_page(small_page).ready()
    assert heading(page).startswith("Recorded")
    page.keyboard.press("ArrowRight")
    assert heading(page).startswith("simplify")
    assert page.locator("[aria-current=step] .name").inner_text() == "simplify"
    page.keyboard.press("End")
    assert heading(page).startswith("Plan")
    page.keyboard.press("ArrowRight")
    assert heading(page).startswith("Plan")
    page.keyboard.press("ArrowLeft")
    assert heading(page).startswith("dce")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    assert heading(page).startswith("Recorded")


def test_stepping_by_mouse_and_back(small_page, open_page):
    page = open_page(small_page).ready()
    page.locator("[data-stop='3']").click()
    assert heading(page).startswith("stabilize")
    page.locator("[data-stop='4']").click()
    assert place(page) == "pass=4"
    page.go_back()
    page.shows("stabilize", "#stop-head h2")
    assert place(page) == "pass=3"


def test_a_pass_that_changed_nothing_is_dimmed_and_says_so(small_page, open_page):
    data = data_in(small_page)
    same = [i for i, stage in enumerate(data["stages"]) if "rows" not in stage]
    assert same
    page = open_page(small_page, f"#pass={same[0]}").ready()
    assert page.locator(".is-unchanged").count() == len(same)
    page.shows("left the graph as it was", "#picture")
    page.locator("#picture .link").click()
    assert page.locator("#picture [data-box]").count() > 0


def test_the_changes_are_marked_and_told(small_page, open_page):
    page = open_page(small_page, "#pass=3").ready()
    colours = page.locator("#picture [data-box] :is(path, polygon)").evaluate_all(
        "shapes => shapes.map(x => getComputedStyle(x).stroke)"
    )
    assert "rgb(17, 119, 51)" in colours  # added: #117733
    assert "rgb(204, 51, 17)" in colours  # removed: #cc3311
    legend = page.locator("#legend").inner_text()
    assert "+ added" in legend
    assert "removed" in legend
    assert page.locator(".chip").all_inner_texts() == ["all 1 change", "log-sum-exp ×1"]
    hunk = page.locator(".hunk")
    assert f"conftest.py:{line_of('log-sum-exp')}" in hunk.inner_text()
    signs = hunk.locator(".sign").all_inner_texts()
    assert signs == [*3 * ["\N{MINUS SIGN}"], "+"]
    assert "logsumexp(" in hunk.locator(".is-added").inner_text()
    before, after = data_in(small_page)["stages"][2:4]
    costs = page.locator(".costs").inner_text()
    assert f"{before['nodes']} → {after['nodes']}" in costs


def test_rules_choose_the_changes(training_page, open_page):
    data = data_in(training_page)
    number, stage = next(
        (i, x) for i, x in enumerate(data["stages"]) if len(x["rules"]) > 1 and "rows" in x
    )
    page = open_page(training_page, f"#pass={number}").ready()
    assert page.locator(".hunk").count() == len(stage["hunks"])
    rule = list(stage["rules"])[-1]
    page.locator(f".chip[data-rule='{rule}']").click()
    shown = [x for x in stage["hunks"] if rule in x["rules"]]
    assert page.locator(".hunk").count() == len(shown) < len(stage["hunks"])
    first = page.locator(".hunk").first
    first.evaluate("hunk => hunk.open = false")
    first.locator("summary").click()
    assert first.locator(".code-line").first.is_visible()


def test_the_text_has_every_line_and_unfolds(small_page, open_page):
    page = open_page(small_page, "#pass=4&tab=text").ready()
    diff = data_in(small_page)["stages"][4]["diff"]
    while page.locator("#details .fold").count():
        page.locator("#details .fold").first.click()
    assert page.locator("#details > .code .code-line").count() == len(diff)
    added = sum(sign == 1 for sign, *_ in diff)
    assert page.locator("#details > .code .is-added").count() == added > 3


def test_a_click_on_a_node_shows_its_line_and_its_story(small_page, open_page):
    page = open_page(small_page, "#pass=3").ready()
    page.locator("#picture [data-box]", has_text="logsumexp").click()
    details = page.locator("#details")
    assert details.locator("h3").inner_text().endswith("logsumexp")
    line = details.locator(".is-here")
    assert line.get_attribute("data-line") == str(line_of("log-sum-exp"))
    assert "return ndl.log(ndl.exp(y).sum(axes=1)).sum()" in line.inner_text()
    came = details.locator("[aria-label='Came from']").inner_text()
    assert [op for op in ("exp", "log", "sum") if op in came] == ["exp", "log", "sum"]
    assert "step" in details.locator("[aria-label='Became']").inner_text()
    assert page.locator("#picture .is-selected").count() == 1
    details.locator("[aria-label='Operands'] .link").first.click()
    page.shows("matmul", "#details h3")
    details.locator("[aria-label='Read by'] .link").first.click()
    page.shows("logsumexp", "#details h3")
    details.locator("[aria-label='Came from'] .link").first.click()
    assert heading(page).startswith("Recorded")
    page.keyboard.press("Escape")
    assert page.locator("#picture .is-selected").count() == 0


def test_a_click_on_a_module_lists_its_values(training_page, open_page):
    page = open_page(training_page).ready()
    page.keyboard.press("0")
    page.locator("#picture [data-box]", has_text="norm1").first.click()
    page.shows("blocks.0.norm1", "#details h3")
    assert page.locator("#details .values li").count() > 3
    page.locator("#details .values .link").last.click()
    page.locator("#details .is-here").wait_for()


def test_the_levels_of_a_picture(training_page, open_page):
    page = open_page(training_page).ready()
    few = page.locator("#picture [data-box]").count()
    page.keyboard.press("l")
    page.locator("body[data-ready=picture-0-ops]").wait_for()
    assert page.locator("#picture [data-box]").count() > few
    page.locator("#levels button", has_text="Primitives").click()
    page.locator("body[data-ready=picture-0-primitives]").wait_for()


def scale(page):
    """Pixels a unit of the picture."""
    return page.evaluate(
        "() => { const s = document.querySelector('#picture svg');"
        " return s.clientWidth / s.viewBox.baseVal.width; }"
    )


def corner(page):
    return page.evaluate(
        "() => { const v = document.querySelector('#picture svg').viewBox.baseVal;"
        " return [v.x, v.y]; }"
    )


def test_zoom_and_pan(training_page, open_page):
    page = open_page(training_page).ready()
    start = scale(page)
    page.keyboard.press("+")
    assert scale(page) == pytest.approx(1.25 * start, rel=0.01)
    page.keyboard.press("-")
    page.keyboard.press("0")
    assert scale(page) < start  # a tall picture, all of it
    frame = page.locator("#picture").bounding_box()
    middle = (frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2)
    page.mouse.move(*middle)
    before = scale(page)
    page.mouse.wheel(0, -400)
    page.wait_for_timeout(100)
    assert scale(page) > 1.5 * before
    x, y = corner(page)
    page.mouse.down()
    page.mouse.move(middle[0] - 50, middle[1] - 30, steps=4)
    page.mouse.up()
    assert corner(page) == pytest.approx([x + 50 / scale(page), y + 30 / scale(page)], abs=0.5)
    assert page.locator("#picture .is-selected").count() == 0  # a drag is no click
    x, y = corner(page)
    page.keyboard.press("Shift+ArrowRight")
    assert corner(page)[0] > x


def test_search(training_page, open_page):
    page = open_page(training_page).ready()
    page.keyboard.press("/")
    page.keyboard.type("blocks.1.norm2 batch_norm")
    results = page.locator(".result")
    assert results.count() >= 1
    assert "batch_norm" in results.first.inner_text()
    page.keyboard.press("Enter")
    page.shows("batch_norm", "#details h3")
    assert page.locator("#details .facts-list").first.inner_text().count("blocks.1.norm2")
    assert "node=%" in place(page)
    assert not page.locator("#results").is_visible()
    # What is not at this stop is found at another one; by line, and by a value's name.
    page.keyboard.press("/")
    page.keyboard.type("fused")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.shows("fused", "#details h3")
    assert heading(page).startswith("fuse")
    page.keyboard.press("/")
    page.keyboard.type("self.stem(x)")
    assert results.count() > 1
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("no such thing")
    assert results.count() == 0
    page.shows("0 values", "#results")


def test_the_memory_chart_has_every_value_and_the_peak(training_page, open_page):
    plan = data_in(training_page)["plan"]
    page = open_page(training_page, "#view=memory")
    arena = [slot for slot in plan["slots"] if slot[1] == "arena" and slot[6] < 0]
    bars = page.locator(".memory-chart .bar")
    bars.first.wait_for()
    assert bars.count() == len(arena)
    step = plan["peak_step"]
    assert f"step {step}" in page.locator(".marker.peak text").text_content()
    assert f"step {step}" in page.locator(".alive-table h3").inner_text()
    alive = page.locator(".alive-table tbody tr").evaluate_all(
        "rows => rows.map(row => row.dataset.name)"
    )
    assert sorted(alive) == sorted(plan["slots"][i][0] for i in plan["alive"])
    # The highest point of the curve is at the peak.
    points = page.locator(".memory-chart .alive").get_attribute("points").split()
    tops = [float(point.split(",")[1]) for point in points][1:-1:2]
    assert len(tops) == len(plan["steps"])
    assert tops.index(min(tops)) == step
    page.keyboard.press("ArrowRight")
    page.shows(f"Alive at step {step + 1} ", ".alive-table h3")
    assert place(page) == f"view=memory&pass=0&step={step + 1}"
    page.locator("#step").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.shows(f"Alive at step {step - 1} ", ".alive-table h3")
    assert page.locator("#step").evaluate("x => x === document.activeElement")
    page.locator(".memory-bar button", has_text="Peak").click()
    page.shows(f"Alive at the peak, step {step} ", ".alive-table h3")


def test_a_bar_leads_to_its_value(training_page, open_page):
    plan = data_in(training_page)["plan"]
    page = open_page(training_page, "#view=memory")
    slot = max((x for x in plan["slots"] if x[1] == "arena" and x[6] < 0), key=lambda x: x[2])
    bar = page.locator(f".memory-chart .bar[data-name='{slot[0]}']").first
    # At its left end: the value that is computed in its place begins within its last step.
    bar.hover(position={"x": 1, "y": 5})
    assert page.locator("#tooltip").inner_text().startswith(slot[0])
    bar.click(position={"x": 1, "y": 5})
    page.shows(slot[0], "#details h3")
    page.locator("#details .is-here").wait_for()
    assert page.locator(f".memory-chart .is-selected[data-name='{slot[0]}']").count() == 1
    for name in ("by module", "by phase", "by kind"):
        page.locator(".memory-bar button", has_text=name).click()
        assert page.locator(".memory-bar [aria-pressed=true]").inner_text() == name


def names_in(table):
    return [x.split("\n")[0] for x in table.locator("tbody th").all_inner_texts()]


def test_the_profile_can_be_sorted(training_page, open_page):
    profile = data_in(training_page)["profile"]
    page = open_page(training_page, "#view=profile")
    assert page.locator(".profile-table").count() == 4
    rows = {name: (calls, seconds) for name, calls, seconds, *_ in profile["tables"]["kernel"]}
    table = page.locator("[data-table=kernel]")
    assert names_in(table) == sorted(rows, key=lambda name: -rows[name][1])
    table.locator("thead button", has_text="calls").click()
    calls = [rows[name][0] for name in names_in(table)]
    assert calls == sorted(calls, reverse=True)
    assert table.locator("[aria-sort=descending]").inner_text().startswith("calls")
    table.locator("thead button", has_text="calls").click()
    assert [rows[name][0] for name in names_in(table)] == sorted(calls)
    table.locator("thead button").first.click()
    assert names_in(table) == sorted(rows)
    lines = page.locator("[data-table=line] tbody")
    assert "mlp_resnet.py:" in lines.inner_text()
    assert "self.relu(" in lines.inner_text()
    page.locator("[data-table=module] .link").first.click()
    assert page.locator(".result").count() > 0


def luminance(page):
    red, green, blue = page.evaluate(
        "() => { const c = document.createElement('canvas').getContext('2d');"
        " c.fillStyle = getComputedStyle(document.body).backgroundColor; c.fillRect(0, 0, 1, 1);"
        " return [...c.getImageData(0, 0, 1, 1).data].slice(0, 3); }"
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_dark_and_light(small_page, open_page):
    page = open_page(small_page).ready()
    assert luminance(page) > 200
    page.keyboard.press("d")
    assert luminance(page) < 50
    page.reload()
    page.ready()
    assert luminance(page) < 50  # it is remembered
    page.locator("#theme").click()
    assert luminance(page) > 200
    assert luminance(open_page(small_page, color_scheme="dark").ready()) < 50


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_in_the_picture_can_be_read(training_page, open_page, scheme):
    """The contrast of each word with what is behind it is at least 3 to 1 (WCAG for large type)."""
    page = open_page(training_page, "#pass=6", color_scheme=scheme).ready()
    worst = page.evaluate(
        """() => {
      const canvas = document.createElement('canvas');
      canvas.width = canvas.height = 1;
      const context = canvas.getContext('2d', {willReadFrequently: true});
      const luminance = colour => {
        context.fillStyle = colour;
        context.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3)
          .map(c => c / 255).map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      let worst = 21;
      for (const group of document.querySelectorAll('#picture [data-box]')) {
        const shape = group.querySelector('path, polygon');
        if (!shape) continue;
        const behind = luminance(getComputedStyle(shape).fill);
        for (const text of group.querySelectorAll('text')) {
          const front = luminance(getComputedStyle(text).fill);
          const [high, low] = [Math.max(front, behind), Math.min(front, behind)];
          worst = Math.min(worst, (high + 0.05) / (low + 0.05));
        }
      }
      return worst;
    }"""
    )
    assert 3 <= worst < 21


def test_a_link_leads_to_a_pass_and_a_node(small_page, open_page):
    data = data_in(small_page)
    name = next(
        data["rows"][i][0] for i in data["stages"][3]["rows"] if data["rows"][i][1] == "logsumexp"
    )
    for written in (name, name.replace("%", "%25")):
        page = open_page(small_page, f"#pass=3&node={written}").ready()
        assert heading(page).startswith("stabilize")
        assert page.locator("#details h3").inner_text().strip() == f"{name} logsumexp"
        assert page.locator("#picture .is-selected").count() == 1
    page = open_page(small_page, "#view=profile&pass=1")
    assert page.locator("#profile h2").is_visible()
    page = open_page(small_page, "#pass=999&node=%25nothing&view=none").ready()
    assert heading(page).startswith("Plan")


@pytest.mark.parametrize("size", [(1280, 800), (800, 1000), (400, 800)])
@pytest.mark.parametrize("place", ["#pass=6", "#pass=3&tab=text", "#view=memory", "#view=profile"])
def test_nothing_is_wider_than_the_window(training_page, open_page, size, place):
    page = open_page(training_page, place, size=size)
    page.locator("#stop-head h2, #memory h2, #profile h2").first.wait_for(state="attached")
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    outside = page.evaluate(
        """() => [...document.querySelectorAll('h2, h3, .costs dd, .segments button, .tabs button')]
      .filter(x => x.offsetParent)
      .filter(x => {
        const box = x.getBoundingClientRect();
        return box.right > innerWidth + 1 || box.left < -1 || x.scrollWidth > x.clientWidth + 1;
      })
      .map(x => x.textContent)"""
    )
    assert outside == []


def test_help_lists_the_keys(small_page, open_page):
    page = open_page(small_page).ready()
    page.keyboard.press("?")
    page.shows("search; Enter goes to the result", "dialog")
    page.keyboard.press("ArrowRight")
    assert heading(page).startswith("Recorded")
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()


def test_words_of_a_program_stay_words(tmp_path, open_page):
    evil = "</script><img src=http://localhost/x onerror=\"document.title='evil'\">"

    class Net(nn.Module):
        def forward(self, x):
            return ndl.exp(x)  # </script><img src=x onerror="document.title='evil'">

    module = nn.Sequential(Net())
    module.modules[0].__dict__["_name"] = evil

    def step(x):
        with ndl.ir.scope(module=evil):
            return module(x).sum()

    step.__name__ = evil
    path = tmp_path / "evil.html"
    ndl.report(step, ndl.Tensor(np.ones(3, np.float32)), path=path, pipeline="cse")
    page = open_page(path, "#pass=0&tab=text").ready()
    assert page.title() == f"@{evil} · needle_ir report"
    assert page.locator("img").count() == 0
    page.locator(".code-line", has_text="sum(").first.click()
    assert evil in page.locator("#details").inner_text()
    page.locator("#details [aria-label='Operands'] .link").first.click()
    assert "onerror" in page.locator("#details .is-here").inner_text()
    page.locator("#tab-profile").click()
    assert evil in page.locator("#profile").inner_text()
    page.keyboard.press("/")
    page.keyboard.type("onerror")
    assert page.locator(".result").count() > 0
    assert page.locator("img").count() == 0


def test_a_program_that_does_nothing_has_a_page(tmp_path, open_page):
    path = tmp_path / "nothing.html"
    made = ndl.report(lambda x: x, np.ones(3, np.float32), path=path)
    assert made.notes == ("no profile: the plan calls no kernel",)
    page = open_page(path, "#view=memory")
    page.shows("The plan keeps nothing in its arena.", "#memory")
    page.keyboard.press("3")
    page.shows("Nothing was measured: the plan calls no kernel.", "#profile")
    page.keyboard.press("1")
    page.keyboard.press("End")
    page.ready()
    for view in ("#passes", "#memory", "#profile"):
        assert "NaN" not in page.locator(view).text_content()


def test_without_graphviz_the_page_is_the_same(tmp_path, monkeypatch, open_page):
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "plain.html"
    x = np.ones((8, 3), np.float32)
    ndl.report(small_loss, np.ones((3, 4), np.float32), x, path=path, pipeline="simplify")
    page = open_page(path, "#pass=1").ready()
    page.shows("laid out without Graphviz", "#notes")
    page.locator("#picture [data-box]", has_text="matmul").first.click()
    page.shows("matmul", "#details h3")
    assert page.locator("#picture .is-near").count() >= 1


def test_it_prints_all_three_views(small_page, open_page):
    page = open_page(small_page, "#pass=3").ready()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    for selector in ("#picture svg", ".memory-chart", ".profile-table"):
        assert page.locator(selector).first.is_visible(), selector
    assert not page.locator("#search").is_visible()
