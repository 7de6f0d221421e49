"""The garbage collector rests while something is compiled, and goes on as it was."""

import gc

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir.compiler import collector_paused


class Look:
    """An instrument that notes whether the collector is on."""

    def __init__(self):
        self.seen = []

    def start(self, graph):
        self.seen.append(gc.isenabled())

    def after(self, pass_, before, after, seconds):
        pass


def test_it_rests_while_a_graph_is_compiled():
    look = Look()
    with ndl.instruments(look):
        ndl.compile(lambda x: x * 3 + 1, np.ones(2, np.float32))
    assert look.seen == [False]
    assert gc.isenabled()


def test_it_goes_on_after_an_error():
    with pytest.raises(KeyError), collector_paused():
        raise KeyError
    assert gc.isenabled()


def test_it_stays_off_where_it_was_off():
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_was_made_meanwhile_is_not_looked_through_at_once():
    """It counts as old: a collection of the young finds nothing to do."""
    with collector_paused():
        made = [[i] for i in range(10_000)]
    young = gc.get_objects(generation=0)
    assert len(made) == 10_000
    assert len(young) < 5_000
    assert any(x is made[0] for x in gc.get_objects(generation=2))


def test_objects_that_somebody_froze_stay_frozen():
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with collector_paused():
            pass
        assert gc.get_freeze_count() == frozen > 0
    finally:
        gc.unfreeze()
