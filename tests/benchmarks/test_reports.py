"""The tables: ratios, absent peers, targets, Markdown, and the commands that print them."""

import json
import statistics

import pytest

from benchmarks import compile_time, compiled_graphs, regression, step
from benchmarks.configurations import CONFIGURATIONS
from benchmarks.measure import Comparison, Outcome, Settings, median_ratio
from benchmarks.report import as_json, fact_table, memory_table, step_table
from benchmarks.tables import Table, markdown, new_console, print_tables, replace_section
from benchmarks.targets import TARGETS, target_table

PHASES = {"import": 0.1, "build": 0.2, "first step": 0.3}


def outcome(name, steps=(), first=(), **rest):
    return Outcome(name, first=[*first], phases=[PHASES] * len(first), steps=[*steps], **rest)


def comparison(*outcomes, name="default", cores=1):
    by_name = {x.contender: x for x in outcomes}
    return Comparison(CONFIGURATIONS[name], cores, by_name, load=0.5)


MEASURED = comparison(
    outcome("numpy", [0.001, 0.002, 0.001, 0.001, 0.001], [1.0, 1.2, 1.1], facts={
        "version": "NumPy 2", "BLAS": "openblas SkylakeX", "random numbers": "SFC64"}),
    outcome("needle-jit", [0.002, 0.004, 0.002, 0.003, 0.002], [0.5, 0.6, 0.7],
            memory={"temporaries": 300, "without reuse": 1000, "new results": 20}),
    outcome("needle-eager", [0.003, 0.005, 0.003, 0.004, 0.003], [0.5, 0.6, 0.7]),
    outcome("torch-eager", reason="torch is not installed"),
    outcome("jax", [0.004, 0.004, 0.004, 0.004, 0.004], [4.0], memory={"temporaries": 200}),
    outcome("torch-fused", reason="none within 5 s", first=[1.0]),
)  # fmt: skip


def test_a_ratio_pairs_the_rounds():
    # A round in which the machine was four times as slow.
    assert median_ratio([2.0, 8.0, 2.0], [1.0, 4.0, 1.0]) == 2.0
    assert median_ratio([1.0, 10.0, 4.0], [1.0, 5.0, 1.0]) == 2.0
    assert median_ratio([3.0], [1.0, 2.0, 1.5]) == 2.0
    with pytest.raises(statistics.StatisticsError):
        median_ratio([], [])


def test_the_step_table_names_what_is_absent():
    table = step_table(MEASURED, "numpy")
    rows = {row[0]: row[1:] for row in table.rows}
    assert "1 core, load average 0.5" in table.title
    assert rows["NumPy by hand"][:4] == ("1.00", "1.00 (1.00…1.00)", "1.10", "1.00")
    assert rows["needle_ir, jit"][0] == "2.00"
    assert rows["needle_ir, jit"][1].startswith("2.00 (2.00…")
    assert rows["needle_ir, jit"][3:] == ("0.50", "0.10", "0.20", "0.30")
    assert rows["PyTorch eager"] == ("", "", "torch is not installed", "", "", "", "")
    assert rows["PyTorch eager, fused Adam"][0] == "none within 5 s"
    assert rows["JAX jit"][3] == "3.64"


def test_a_reference_that_is_absent_leaves_no_ratio():
    rows = {row[0]: row[1:] for row in step_table(MEASURED, "torch-eager").rows}
    assert rows["needle_ir, jit"][:4] == ("2.00", "", "0.60", "")


def test_only_the_last_line_of_a_failure_is_shown():
    failed = comparison(outcome("numpy", reason="Traceback\n  File x\nValueError: no", failed=True))
    assert step_table(failed, "numpy").rows[0][3] == "ValueError: no"


def test_facts_and_memory():
    assert fact_table([MEASURED, MEASURED]).rows == (
        ("NumPy by hand", "NumPy 2", "openblas SkylakeX", "SFC64"),
    )
    assert memory_table([MEASURED]).rows == (
        ("default", "needle_ir, jit", "300", "1,000", "20"),
        ("default", "JAX jit", "200", "", ""),
    )


def test_targets():
    deep = comparison(outcome("needle-jit", [0.1], [2.0]), name="blocks-100")
    deeper = comparison(outcome("needle-jit", [0.1], [22.0]), name="blocks-1000")
    results = {x.name: x for x in (MEASURED, deep, deeper)}
    rows = {row[0]: row[1:] for row in target_table(results).rows}
    assert len(rows) == len(TARGETS)
    assert rows["default step, jit, beside NumPy by hand"] == ("1.05", "2.00", "no")
    assert rows["default step, jit, beside JAX"] == ("1.05", "0.50", "yes")
    assert rows["default step, jit, beside PyTorch eager"] == ("0.45", "not measured", "")
    assert rows["what recording and cache look-up add to a step"] == ("0.25 ms", "1.00 ms", "no")
    assert rows["the same, beside PyTorch eager"] == ("0.155", "not measured", "")
    assert rows["cold process to first step, beside JAX"] == ("0.25", "0.15", "yes")
    assert rows["1,000 blocks: first step over that of 100 blocks"] == ("12.00", "11.00", "yes")
    assert rows["planned arena bytes over all intermediates, default step"][1:] == ("0.30", "yes")
    assert rows["planned arena bytes beside JAX's temporaries, default step"][1:] == ("1.50", "no")


def test_what_recording_adds_is_paired_with_the_steps_of_pytorch():
    torch = outcome("torch-eager", [0.010, 0.004, 0.010, 0.010, 0.020])
    measured = comparison(*MEASURED.outcomes.values(), torch)
    rows = {row[0]: row[1:] for row in target_table({"default": measured}).rows}
    assert rows["the same, beside PyTorch eager"] == ("0.155", "0.100", "yes")


def test_every_target_can_be_measured():
    """Each is about configurations and contenders that there are."""
    names = [*CONFIGURATIONS, *(f"{name}:2" for name in CONFIGURATIONS)]
    memory = {"temporaries": 1, "without reuse": 1}
    contenders = ("numpy", "needle-jit", "needle-eager", "torch-eager", "jax")
    outcomes = {x: outcome(x, [1.0], [1.0], memory=memory) for x in contenders}
    results = {
        name: Comparison(CONFIGURATIONS[name.partition(":")[0]], 1, outcomes) for name in names
    }
    assert all("not measured" not in row for row in target_table(results).rows)


def test_json_holds_all_that_was_measured():
    content = json.loads(json.dumps(as_json([MEASURED], Settings())))
    jax = content["comparisons"][0]["outcomes"]["jax"]
    assert jax["steps"] == MEASURED.outcomes["jax"].steps
    assert content["comparisons"][0]["configuration"]["hidden"] == 100
    assert content["settings"]["rounds"] == Settings().rounds


TABLE = Table("Title", ("a", "b", "c"), (("x | y", "1", "2"),), left=2)


def test_markdown():
    assert markdown([TABLE]) == (
        "**Title**\n\n| a | b | c |\n| --- | --- | ---: |\n| x / y | 1 | 2 |\n"
    )


def test_a_table_that_goes_to_a_file_is_wide(capsys):
    print_tables([Table("T", ("name", "x"), (("n" * 60, "y" * 40),))], new_console())
    assert "y" * 40 in capsys.readouterr().out


def test_a_section_of_a_page_is_replaced(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- begin x -->\nold\n<!-- end x -->\nbelow\n")
    for text in ("new\n", "newer\n"):
        replace_section(page, "x", text)
        expected = f"above\n<!-- begin x -->\n\n{text}\n<!-- end x -->\nbelow\n"
        assert page.read_text() == expected
    with pytest.raises(ValueError, match="begin y"):
        replace_section(page, "y", "new")
    assert page.read_text() == expected


def test_the_command_prints_tables_and_writes_files(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(step, "compare", lambda *arguments: MEASURED)
    page = tmp_path / "page.md"
    page.write_text("<!-- begin step -->\n<!-- end step -->\n")
    names = list(MEASURED.outcomes)
    options = ["--contenders", *names, "--json", str(tmp_path / "x.json"), "--markdown", str(page)]
    assert step.main(options) == 0
    assert "needle_ir, no decorator" in capsys.readouterr().out
    assert json.loads((tmp_path / "x.json").read_text())["comparisons"]
    assert "| needle_ir, jit | 2.00 |" in page.read_text()
    assert "| PyTorch eager |  |  | torch is not installed |" in page.read_text()


def test_the_command_fails_where_a_contender_failed(capsys, monkeypatch):
    failed = comparison(outcome("numpy", reason="Traceback\nValueError: no", failed=True))
    monkeypatch.setattr(step, "compare", lambda *arguments: failed)
    assert step.main(["--contenders", "numpy"]) == 1
    assert "default: Traceback\nValueError: no" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config", "wide"], "'wide' is none of all, default"),
        (["--config", "default:0"], "'default:0' is none of"),
        (["--config", "default:999"], "cores"),
        (["--contenders", "needle-jit"], "the reference numpy is not one of the contenders"),
        (["--contenders", "tensorflow"], "invalid choice"),
        (["--rounds", "0"], "invalid positive number value: '0'"),
        (["--python", "/nowhere/python"], "there is no interpreter /nowhere/python"),
    ],
)
def test_bad_options_are_refused(arguments, said, capsys):
    with pytest.raises(SystemExit) as end:
        step.main(arguments)
    assert end.value.code == 2
    assert said in capsys.readouterr().err


NOW = {"jit": 1.2, "recording": 0.5, "import": 1.5}


@pytest.fixture
def baseline(tmp_path, monkeypatch):
    path = tmp_path / "baseline.json"
    monkeypatch.setattr(regression, "BASELINE", path)
    monkeypatch.setattr(regression, "pin", lambda cores: None)

    def measured(*runs):
        values = iter(runs)
        monkeypatch.setattr(regression, "measure", lambda: next(values))

    measured(NOW)
    assert regression.main(["--write-baseline"]) == 0
    return measured


def test_a_ratio_may_worsen_by_a_quarter(baseline, capsys):
    baseline(NOW | {"jit": 1.2 * 1.24})
    assert regression.main([]) == 0
    assert "+24%" in capsys.readouterr().out


def test_a_ratio_that_worsened_twice_fails(baseline, capsys):
    baseline(NOW | {"jit": 1.2 * 1.3}, NOW | {"jit": 1.2 * 1.4})
    assert regression.main([]) == 1
    printed = capsys.readouterr()
    assert "+30%" in printed.out
    assert "worse" in printed.out
    assert "--write-baseline" in printed.err


def test_a_ratio_that_worsened_once_passes(baseline):
    baseline(NOW | {"jit": 1.2 * 1.3}, NOW | {"import": 1.5 * 1.3})
    assert regression.main([]) == 0


def test_a_contender_that_did_not_run_fails(baseline, monkeypatch, capsys):
    def measure():
        raise regression.IncompleteError("numpy ended with an error")

    monkeypatch.setattr(regression, "measure", measure)
    assert regression.main([]) == 1
    assert "numpy ended" in capsys.readouterr().err


def test_a_baseline_of_other_ratios_is_refused(baseline, capsys):
    regression.BASELINE.write_text('{"date": "", "machine": "", "ratios": {"step": 1.0}}')
    assert regression.main([]) == 1
    assert "--write-baseline" in capsys.readouterr().err


def test_the_committed_baseline_has_every_ratio():
    stored = regression.read_baseline(regression.BASELINE)["ratios"]
    assert set(stored) == set(regression.RATIOS)
    assert all(ratio > 0 for ratio in stored.values())


@pytest.mark.parametrize("name", compiled_graphs.PROGRAMS)
def test_compile_time_is_told_phase_by_phase(name, monkeypatch):
    monkeypatch.setattr(compile_time, "REPEAT_SECONDS", 0.0)
    results = [compile_time.measure(name, nodes) for nodes in (100, 400)]
    assert 70 <= results[0].nodes <= 130
    assert 330 <= results[1].nodes <= 470
    phases = list(results[0].seconds)
    assert phases[0] == "recording"
    assert phases[-2:] == ["plan", "generated code"]
    assert {"autodiff", "simplify", "simplify 2"} <= set(phases)
    assert all(seconds >= 0 for seconds in results[0].seconds.values())


def test_the_compile_time_table_divides_by_nodes():
    results = [
        compile_time.CompileTime("chain", nodes, nodes, 1, {"recording": s, "plan": s})
        for nodes, s in ((100, 0.001), (1000, 0.005), (10_000, 0.1))
    ]
    rows = {row[0]: row[1:] for row in compile_time.table(results).rows}
    assert rows["recording"] == ("10.0", "5.0", "10.0", "2.00")
    assert rows["together"] == ("20.0", "10.0", "20.0", "2.00")
    assert rows["together, s"] == ("0.00", "0.01", "0.20", "")


def test_the_compile_time_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(compile_time, "REPEAT_SECONDS", 0.0)
    monkeypatch.setattr(compile_time, "pin", lambda cores: None)
    page = tmp_path / "page.md"
    page.write_text("<!-- begin compile time -->\n<!-- end compile time -->\n")
    arguments = ["--programs", "chain", "--nodes", "200", "100", "--markdown", str(page)]
    assert compile_time.main([*arguments, "--json", str(tmp_path / "x.json")]) == 0
    assert "102 nodes" in capsys.readouterr().out
    assert "| chain | 102 nodes | 202 nodes |" in page.read_text()
    assert len(json.loads((tmp_path / "x.json").read_text())["results"]) == 2
