"""`profile`: what it counts, what it prints, the trace it writes."""

import json

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import nn
from needle_ir.machine import copy_gbps, copy_rates, peak_gflops

rng = np.random.default_rng(0)
X = rng.normal(size=(8, 32)).astype(np.float32)
W = rng.normal(size=(32, 16)).astype(np.float32)


def product() -> ndl.Tensor:
    return ndl.relu(ndl.Tensor(X, requires_grad=False) @ ndl.Tensor(W, requires_grad=False))


def by_name(rows):
    return {row.name: row for row in rows}


def test_every_kernel_call_is_counted_with_its_cost() -> None:
    with ndl.profile(show=False) as p:
        for _ in range(3):
            product().numpy()
    rows = by_name(p.by_kernel())
    assert rows.keys() == {"matmul", "relu"}
    assert rows["matmul"].calls == rows["relu"].calls == 3
    assert rows["matmul"].flops == 3 * 2 * 8 * 32 * 16
    assert rows["matmul"].bytes_moved == 3 * 4 * (8 * 32 + 32 * 16 + 8 * 16)
    assert rows["relu"].bytes_moved == 3 * 4 * 2 * 8 * 16


def test_the_numbers_are_those_without_it() -> None:
    expected = product().numpy()
    with ndl.profile(show=False):
        inside = product().numpy()
    np.testing.assert_array_equal(inside, expected)
    np.testing.assert_array_equal(product().numpy(), expected)


def test_times_add_up() -> None:
    ndl.clear_cache()
    with ndl.profile(show=False) as p:
        product().numpy()
    assert 0 < p.kernel_seconds < p.seconds
    assert 0 < p.compile_seconds < p.seconds
    assert sum(p.node_seconds().values()) == pytest.approx(p.kernel_seconds)
    for rows in (p.by_kernel(), p.by_module(), p.by_line(), p.by_phase()):
        assert sum(row.seconds for row in rows) == pytest.approx(p.kernel_seconds)
        assert [row.seconds for row in rows] == sorted((r.seconds for r in rows), reverse=True)


def test_modules_lines_and_phases() -> None:
    model = nn.Sequential(nn.Linear(32, 4), nn.ReLU())
    opt = ndl.optim.SGD(model.parameters(), lr=0.1)
    with ndl.profile(show=False) as p:
        model(ndl.Tensor(X)).sum().backward()
        opt.step()
    assert {"0", "1", "SGD"} <= by_name(p.by_module()).keys()
    assert {"forward", "backward", "update"} == by_name(p.by_phase()).keys()
    lines = [row.name for row in p.by_line()]
    assert all(line.startswith("test_profiler.py:") for line in lines)
    assert len(lines) == 2


def test_what_is_still_pending_at_the_end_is_computed() -> None:
    with ndl.profile(show=False) as p:
        kept = product()
    assert by_name(p.by_kernel())["matmul"].calls == 1
    assert kept.node.value is not None


def test_nothing_outside_is_counted() -> None:
    with ndl.profile(show=False) as p:
        pass
    product().numpy()
    assert p.calls == []
    assert "0 kernel calls" in str(p)


def test_jit_is_measured_as_well() -> None:
    fn = ndl.jit(lambda x: (x * x).sum())
    x = ndl.Tensor(X)
    fn(x)
    with ndl.profile(show=False) as p:
        fn(x)
        fn(x)
    assert by_name(p.by_kernel())["sum"].calls == 2
    assert p.passes == []


def test_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    with ndl.profile() as p:
        product().numpy()
    text = capsys.readouterr().out
    assert text == f"{p}\n"
    head, by_kernel, by_module, by_line = text.split("\n\n")
    assert "2 kernel calls" in head
    assert by_kernel.splitlines()[0].split() == [
        "kernel", "calls", "ms", "share", "MB", "GFLOP/s", "GB/s", "of", "peak",
    ]  # fmt: skip
    row = next(line for line in by_kernel.splitlines() if line.startswith("matmul"))
    name, calls, ms, share, megabytes, rate, bandwidth, of_peak = row.split()
    assert (name, calls) == ("matmul", "1")
    assert float(megabytes) == pytest.approx(4 * (8 * 32 + 32 * 16 + 8 * 16) / 1e6, abs=0.005)
    assert float(share.rstrip("%")) <= 100
    moved = 4 * (8 * 32 + 32 * 16 + 8 * 16)
    (call,) = [call for call in p.calls if call.node.op.name == "matmul"]
    assert float(rate) == pytest.approx(2 * 8 * 32 * 16 / call.seconds / 1e9, abs=0.006)
    assert float(bandwidth) == pytest.approx(moved / call.seconds / 1e9, abs=0.006)
    roofs = (2 * 8 * 32 * 16 / 1e9 / peak_gflops(), moved / 1e9 / copy_gbps(moved))
    assert float(of_peak.rstrip("%")) == pytest.approx(100 * max(roofs) / call.seconds, abs=0.06)
    assert float(ms) > 0
    assert by_module.startswith("module")
    assert by_line.startswith("source line")


def test_one_table_alone() -> None:
    with ndl.profile(show=False) as p:
        product().numpy()
    assert [p.show(by).split("\n\n")[1].split("  ")[0] for by in ("line", "phase")] == [
        "source line",
        "phase",
    ]
    assert p.show("kernel").split("\n\n") == str(p).split("\n\n")[:2]
    with pytest.raises(ValueError, match="no table by 'op'; there are kernel, module, line, phase"):
        p.show("op")


def large() -> ndl.Tensor:
    return ndl.Tensor(np.linspace(0.5, 1.5, 1 << 18, dtype=np.float32), requires_grad=False)


def two_lines(x: ndl.Tensor, shift: float = 1.0) -> ndl.Tensor:
    y = ndl.log(ndl.log(ndl.log(x * 40.0)))
    return y + shift


def test_a_cluster_is_shared_out_among_its_lines() -> None:
    """Three logarithms take longer than an addition; the costs are counted by hand."""
    x = large()
    expected = two_lines(x).numpy()
    with ndl.profile(show=False) as p:
        for _ in range(5):
            np.testing.assert_array_equal(two_lines(x).numpy(), expected)
    (fused,) = p.by_kernel()
    assert fused.name == "fused multiply, log, log, log, add"
    rows = p.by_line()
    assert [row.name.split(" in ")[1] for row in rows] == ["two_lines", "two_lines"]
    first = two_lines.__code__.co_firstlineno
    assert [int(row.name.split(":")[1].split(" ")[0]) for row in rows] == [first + 1, first + 2]
    assert [row.calls for row in rows] == [5, 5]
    assert [row.flops for row in rows] == [5 * 4 * x.size, 5 * x.size]
    assert [row.bytes_moved for row in rows] == [5 * 4 * x.size, 5 * 4 * x.size]  # read; written
    assert sum(row.seconds for row in rows) == pytest.approx(fused.seconds)
    assert rows[0].seconds > 2 * rows[1].seconds


def test_a_cluster_of_two_operands_reads_each_once() -> None:
    x = large()
    with ndl.profile(show=False) as p:
        (ndl.tanh(x * x) * x).numpy()
    (row,) = p.by_line()
    assert row.bytes_moved == p.by_kernel()[0].bytes_moved == 2 * 4 * x.size


def test_the_machine_is_measured_once() -> None:
    assert peak_gflops() == peak_gflops() > 0
    rates = copy_rates()
    assert rates is copy_rates()
    assert [moved for moved, _ in rates] == [2 * 4**step * 4096 for step in range(8)]
    assert copy_gbps(0) == copy_gbps(8192) == rates[0][1]
    assert copy_gbps(8193) == rates[1][1]
    assert copy_gbps(1 << 40) == rates[-1][1]


def test_a_notebook_shows_the_tables_and_the_heat() -> None:
    with ndl.profile(show=False) as p:
        product().numpy()
    shown = p._repr_mimebundle_()
    assert shown["text/plain"] == str(p)
    assert "matmul" in shown["image/svg+xml"]
    assert repr(p).startswith("<Profile: 2 kernel calls in ")
    with ndl.profile(show=False) as nothing:
        pass
    assert nothing._repr_mimebundle_().keys() == {"text/plain"}


def test_a_long_table_ends_with_the_sum_of_the_rest() -> None:
    model = nn.Sequential(*[nn.Linear(32, 32) for _ in range(30)])
    with ndl.profile(show=False) as p:
        model(ndl.Tensor(X)).numpy()
    assert len(p.by_module()) == 30
    by_module = str(p).split("\n\n")[2].splitlines()[1:]
    assert len(by_module) == 20
    assert by_module[-1].startswith("11 more")
    calls = [int(line.removeprefix("11 more").split()[0]) for line in by_module[-1:]]
    calls += [int(line.split()[1]) for line in by_module[:-1]]
    assert sum(calls) == len(p.calls)


def test_the_trace_is_one_chrome_reads(tmp_path) -> None:
    ndl.clear_cache()
    path = tmp_path / "trace.json"
    with ndl.profile(show=False, trace=path) as p:
        product().numpy()
    trace = json.loads(path.read_text("utf-8"))
    assert trace["displayTimeUnit"] == "ms"
    for event in trace["traceEvents"]:
        # What chrome://tracing and Perfetto need of an event.
        assert {"name", "ph", "pid", "tid", "ts"} <= event.keys()
        assert event["ph"] == "M" or (event["dur"] >= 0 and event["ts"] >= 0 and event["cat"])
    named = {
        (event["name"], event["tid"]): event["args"]["name"]
        for event in trace["traceEvents"]
        if event["ph"] == "M"
    }
    assert named == {
        ("process_name", 1): "needle_ir",
        ("thread_name", 1): "kernels",
        ("thread_name", 2): "passes",
    }
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    kernels = [event for event in events if event["tid"] == 1]
    assert [event["name"] for event in kernels] == ["matmul", "relu"]
    assert [event["cat"] for event in kernels] == ["forward", "forward"]
    assert kernels[0]["args"]["line"].startswith("test_profiler.py:")
    assert kernels[0]["args"]["type"] == "f32[8,16]"
    assert kernels[0]["ts"] + kernels[0]["dur"] <= kernels[1]["ts"] + 1e-3
    for event, call in zip(kernels, p.calls, strict=True):
        assert event["dur"] == pytest.approx(1e6 * call.seconds, abs=1e-3)
    passes = [event["name"] for event in events if event["tid"] == 2]
    assert passes == [run.name for run in p.passes]
    assert "autodiff" in passes


def test_an_error_inside_leaves_no_trace(tmp_path) -> None:
    def fail() -> None:
        with ndl.profile(show=False, trace=tmp_path / "t.json"):
            product().numpy()
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        fail()
    assert list(tmp_path.iterdir()) == []
    assert product().numpy().shape == (8, 16)
