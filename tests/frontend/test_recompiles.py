"""`explain_recompiles`: each reason to compile, in words; and the warning for a changing number."""

import gc
import json
import re
import sys
import threading
import warnings
import weakref

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import RecompileWarning, Tensor, nn, optim
from needle_ir.plan_cache import plans
from needle_ir.realize import Pending
from needle_ir.recompiles import STREAK


@pytest.fixture(autouse=True)
def empty_cache():
    ndl.sync()
    ndl.clear_cache()
    yield
    ndl.clear_cache()


def reasons():
    return [x.reason for x in ndl.explain_recompiles().compilations]


def last_reason():
    """The last reason, with line numbers taken off."""
    return re.sub(r" \(test_recompiles\.py:\d+ in \w+\)", " (here)", reasons()[-1])


def ones(*shape, dtype=np.float32):
    return Tensor(np.ones(shape, dtype), requires_grad=False)


def batch(x, scale=0.1):
    """One program: what is compared in most tests."""
    return ((x * scale) + 1).sum(1).numpy()


def test_the_first_time_and_the_lines():
    batch(ones(4, 3))
    batch(ones(4, 3))
    (entry,) = ndl.explain_recompiles().compilations
    assert entry.reason == "first time"
    assert entry.kind == "recorded"
    assert re.fullmatch(r"test_recompiles\.py:\d+ in batch", entry.where)
    assert entry.nodes == 6
    assert 0 < entry.seconds < 60
    ones(2).exp().numpy()
    assert reasons()[1] == "first time; no program kept is like it"


def test_another_type_of_an_input():
    x = ones(100, 784)
    x.rename("x")
    batch(x)
    short = ones(47, 784)
    short.rename("x")
    batch(short)
    assert reasons()[-1] == "%x: f32[100,784] before, f32[47,784] now (a short last batch?)"
    batch(ones(100, 784, dtype=np.float64))
    assert reasons()[-1] == "%in0: f32[47,784] before, f64[100,784] now"
    batch(ones(100, 10))
    assert reasons()[-1].endswith("before, f32[100,10] now")


def test_many_inputs_are_counted():
    def total(n):
        parts = [ones(n, i + 1).sum(1) for i in range(5)]
        return sum(parts[1:], parts[0]).numpy()

    total(4)
    total(3)
    assert reasons()[-1] == (
        "%in0: f32[4,1] before, f32[3,1] now; %in1: f32[4,2] before, f32[3,2] now; "
        "%in2: f32[4,3] before, f32[3,3] now; and 2 more (a short last batch?)"
    )


def test_a_changed_constant_names_its_op_and_line():
    x = ones(4, 3)
    batch(x, scale=0.1)
    batch(x, scale=0.01)
    assert last_reason() == (
        "a constant changed: 0.1 before, 0.01 now, in multiply (here): "
        "pass it as a tensor, and it does not compile again"
    )
    batch(x, scale=Tensor(0.5))
    batch(x, scale=Tensor(0.25))
    assert len(reasons()) == 3


def test_another_attribute():
    for axis in (0, 1):
        ones(4, 3).sum(axis).numpy()
    assert last_reason() == "op 1, sum: axes=[0] before, axes=[1] now (here)"
    weight = ones(3)
    for eps in (1e-5, 1e-3):
        ndl.ops.layer_norm(ones(4, 3), weight, weight, eps=eps).numpy()
    assert last_reason() == "op 2, layer_norm: eps=1e-05 before, eps=0.001 now (here)"
    for dtype in ("float64", "int32"):
        ones(4, 3).astype(dtype).numpy()
    assert last_reason() == "op 1, cast: dtype=f64 before, dtype=i32 now (here)"


def test_another_op():
    x = ones(4, 3)
    for op in (ndl.exp, ndl.log):
        (op(x * 2) + 1).sum().numpy()
    assert last_reason() == "op 3: exp before, log now (here)"


def test_other_operands():
    a, b = ones(2), ones(2)
    for first, second in ((a, b), (b, a)):
        (a.exp() + b.exp() * 2 - first * second.exp()).numpy()
    assert re.fullmatch(r"op \d+: \w+ reads other operands \(here\)", last_reason())


def test_more_ops_and_fewer():
    x = ones(4, 3)
    for steps in (2, 4, 1):
        y = x
        for _ in range(steps):
            y = y.exp()
        y.numpy()
    assert last_reason() == "1 ops fewer than before, first exp (here)"
    assert "2 ops more than before, first exp" in reasons()[1]


def test_other_results_are_asked_for():
    x = ones(4, 3)

    def run(keep):
        hidden = x.exp()
        kept = hidden if keep else None
        del hidden
        result = ((kept if keep else x.exp()) * 2).sum().numpy()
        return kept, result

    run(False)
    run(True)
    assert last_reason() == "results: 1 before, 2 now; also asked for: exp (here)"
    del plans._entries[next(iter(plans._entries))]
    run(False)
    assert last_reason() == "results: 2 before, 1 now; no longer asked for: exp (here)"


def test_a_value_that_was_read_half_way():
    x = ones(4, 3)

    def run(read):
        hidden = x * x
        if read:
            hidden.numpy()
        (hidden + 1).sum().numpy()

    run(False)
    run(True)
    assert re.fullmatch(
        r"the value of test_recompiles\.py:\d+ in run is an input now; "
        "before, the program computed it",
        last_reason(),
    )
    ndl.clear_cache()
    run(True)
    run(False)
    assert last_reason().endswith("was an input before; now the program computes it")
    w = nn.Parameter([1.0, 2.0])
    for read in (False, True, False):
        hidden = w * w
        if read:
            hidden.numpy()
        hidden.sum().backward()
        w.grad.numpy()
    assert "op 1: the value of multiply (here) is known now" in {
        re.sub(r" \(test_recompiles\.py:\d+ in \w+\)", " (here)", reason) for reason in reasons()
    }


def test_an_input_where_an_op_was():
    x = ones(3)
    for part in (x.exp, lambda: ones(3)):
        (part() + x.log() * 2).sum().numpy()
    assert re.fullmatch(r"op \d: exp \(here\) before, the input %in\d now", last_reason())
    ndl.clear_cache()
    for part in (lambda: ones(3), x.exp):
        (x.log() * 2 - part()).sum().numpy()
    assert re.fullmatch(r"op \d: the input %in\d before, exp now \(here\)", last_reason())


def test_a_program_that_was_dropped(monkeypatch):
    monkeypatch.setattr(plans, "capacity", 2)
    for size in (1, 2, 3, 1):
        ones(size).exp().numpy()
    assert reasons()[-1] == "it was compiled before and dropped since: 2 programs are kept"


def test_the_nearest_program_is_the_one_compared_with():
    x = ones(4, 3)
    batch(x)
    for _ in range(3):
        (x.exp() * x.log() - x).max().numpy()
    batch(ones(5, 3))
    assert reasons()[-1] == "%in0: f32[4,3] before, f32[5,3] now"


def test_training_steps_name_the_line_of_step():
    w = nn.Parameter([[1.0], [2.0]])
    opt = optim.SGD([w], lr=0.1)

    def step(rows):
        opt.reset_grad()
        (ones(rows, 2) @ w).sum().backward()
        opt.step()

    for rows in (8, 8, 3):
        step(rows)
    table = ndl.explain_recompiles()
    assert len(table.compilations) == table.total == 2
    assert "in step" in table.compilations[1].where
    assert "f32[8,2] before, f32[3,2] now (a short last batch?)" in table.compilations[1].reason


def test_jitted_functions_are_in_the_same_table():
    scale = ndl.jit(lambda x, n, flag=True: x * n if flag else x)
    layer = nn.Dropout(0.5)
    fast = ndl.jit(layer)
    x = Tensor([1.0, 2.0])
    scale(x, 2)
    scale(x, 2)
    scale(x, 3)
    scale(Tensor([1.0]), 3)
    scale(Tensor([1.0]), 3, flag=False)
    scale(Tensor([1.0], requires_grad=False), 3)
    fast(x)
    layer.eval()
    fast(x)
    assert scale.retraces == [
        "first call",
        "n: 2 before, 3 now; it is static: pass it as a tensor, and it does not compile again",
        "x: f32[2] with requires_grad before, f32[1] with requires_grad now",
        "called with arguments of another structure, (f32[1] with requires_grad, 3, False)",
        "x: f32[1] with requires_grad before, f32[1] now",
    ]
    entries = ndl.explain_recompiles().compilations
    assert [x.reason for x in entries] == [*scale.retraces, *fast.retraces]
    assert fast.retraces[1] == "Dropout._training is False, was True"
    assert {x.kind for x in entries} == {"jit"}
    assert entries[0].where.startswith("<lambda>, called at test_recompiles.py:")


def test_static_values_that_look_the_same():
    fast = ndl.jit(lambda x, n: x * n)
    for n in (np.float32(1), np.float64(1)):
        fast(Tensor([1.0]), n)
    assert fast.retraces[1].startswith("n: 1.0 of float32 before, 1.0 of float64 now")
    named = ndl.jit(lambda x, name: x)
    for name in ("a" * 100, "b"):
        named(Tensor([1.0]), name)
    assert named.retraces[1] == f"name: '{'a' * 58}… before, 'b' now"


def test_a_jitted_function_that_was_dropped(monkeypatch):
    monkeypatch.setattr(sys.modules["needle_ir.jit"], "JIT_CAPACITY", 2)
    fast = ndl.jit(lambda x, n: x * n)
    for n in (1, 2, 3, 1):
        fast(Tensor([1.0]), n)
    assert fast.retraces[-1] == "it was compiled before and dropped since: 2 programs are kept"


def test_the_table_and_its_json():
    assert str(ndl.explain_recompiles()) == "0 programs compiled; 0.0 ms."
    batch(ones(4, 3))
    batch(ones(2, 3))
    table = ndl.explain_recompiles()
    lines = str(table).splitlines()
    assert re.fullmatch(r"2 programs compiled; \d+\.\d ms\.", lines[0])
    assert lines[1].split() == ["time", "ms", "nodes", "where", "why"]
    assert re.match(
        r"\d\d:\d\d:\d\d +\d+\.\d +6  recorded  test_recompiles.py:\d+ in batch  first time",
        lines[2],
    )
    decoded = json.loads(table.to_json())
    assert [x["reason"] for x in decoded] == reasons()
    assert decoded[0].keys() == {"kind", "where", "reason", "nodes", "seconds", "time"}


def test_the_log_is_bounded(monkeypatch):
    fast = ndl.jit(lambda x, n: x)
    x = Tensor([1.0])
    for n in range(1010):
        fast(x, f"{n}")
    table = ndl.explain_recompiles()
    assert (table.total, len(table.compilations)) == (1010, 1000)
    assert "The last 1000 of them" in str(table)
    assert len(fast.retraces) == 1000


def test_a_hit_makes_no_outline(monkeypatch):
    x = ones(4, 3)
    batch(x)
    monkeypatch.setattr(Pending, "outline", lambda self, site: pytest.fail("made for a hit"))
    batch(x)


def test_the_outlines_hold_no_data():
    def run():
        x = Tensor(np.ones((8, 8)))
        y = x * 2
        y.sum().numpy()
        y.numpy()
        (y * 3).sum().numpy()
        return weakref.ref(x.cached_data.base), weakref.ref(y.cached_data.base)

    references = run()
    gc.collect()
    assert len(plans._entries) == 2
    assert [reference() for reference in references] == [None, None]


def test_threads_may_miss_together():
    def work():
        for size in range(1, 30):
            ones(size).exp().numpy()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 29 <= ndl.explain_recompiles().total <= 4 * 29


# The warning --------------------------------------------------------------------------------------


def test_a_number_that_changes_each_time_is_warned_of_once_at_its_line():
    x = ones(2, 2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(2 * STREAK):
            y = x * (1 + step)  # the line
            y.sum().numpy()
            assert len(caught) == (step >= STREAK)
    assert caught[0].category is RecompileWarning
    assert caught[0].filename == __file__
    with open(__file__) as file:
        assert file.readlines()[caught[0].lineno - 1].endswith("# the line\n")
    assert "y = x * (1 + step)  # the line" in str(caught[0].message)
    assert "ndl.Tensor(value)" in str(caught[0].message)


def test_the_advice_helps():
    x = ones(2, 2)
    for step in range(2 * STREAK):
        (x * Tensor(1 + step)).sum().numpy()
    assert len(reasons()) == 1


def test_a_number_that_changes_seldom_is_not_warned_of():
    x = ones(2, 2)
    for step in range(2 * STREAK):
        for _ in range(102):
            batch(x, scale=step)


def test_other_reasons_are_not_warned_of():
    for size in range(1, 3 * STREAK):
        batch(ones(size, 2))


def test_a_static_number_that_changes_at_each_call():
    fast = ndl.jit(lambda x, n: x * n)
    x = ones(2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in range(2 * STREAK):
            fast(x, n)
    assert [x.category for x in caught] == [RecompileWarning]
    assert "the argument n of <lambda> had another value" in str(caught[0].message)
    assert caught[0].filename == __file__


def test_an_error_made_of_the_warning_leaves_all_in_order():
    x = ones(2, 2)
    failed = []
    for step in range(2 * STREAK):
        y = (x * (1 + step)).sum()
        try:
            assert y.item() == 4 * (1 + step)
        except RecompileWarning:
            failed.append(step)
            assert y.item() == 4 * (1 + step)
    assert failed == [STREAK]
