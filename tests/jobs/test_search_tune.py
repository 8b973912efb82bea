"""What the driver of a search does where Tune says nothing."""

from typing import NamedTuple

import pytest

from faceattr.data.stores.local import LocalStore
from faceattr.jobs.cluster.metrics import SearchFigures
from faceattr.jobs.search.tune import WorkCallback, WorkSearcher
from faceattr.search.progress_table import Board
from faceattr.search.records import TrialRecord
from faceattr.search.sampler import Sampler
from faceattr.search.space import parse_space
from faceattr.search.trial_queue import TrialGroup, TrialQueue
from faceattr.yaml_files import load_yaml


class Trial(NamedTuple):
    """What is read of one of Tune's trials."""

    trial_id: str
    status: str
    config: dict


@pytest.mark.ray
def test_a_trial_that_could_not_take_over_a_process_begins_again(ray_local, tmp_path):
    store, space = LocalStore(tmp_path), parse_space(load_yaml("optim.lr: {uniform: [0.1, 1]}", ""), "")
    sampler = Sampler(space, "random", seed=1, two_objectives=False, num_samples=1)
    work = TrialQueue(store, sampler, num_samples=1, round_size=1, learns=False, stack_key=lambda number, values: None)
    figures = SearchFigures()
    callback = WorkCallback(work, Board(1, 0), store, num_epochs=1, figures=figures)
    lost = Trial("a", "ERROR", work.take().to_tune())
    assert work.take() is None
    callback.on_step_end(1, [lost])
    again = work.take()
    assert again.numbers == (0,)
    callback.on_step_end(2, [lost, Trial("b", "RUNNING", again.to_tune())])  # it was given back once
    assert work.take() is None
    assert (work.num_running, work.num_pieces) == (1, 1)
    figures.close()


def test_no_more_pieces_are_given_out_at_a_time_than_allowed(tmp_path):
    store, space = LocalStore(tmp_path), parse_space(load_yaml("optim.lr: {uniform: [0.1, 1]}", ""), "")
    sampler = Sampler(space, "random", seed=1, two_objectives=False, num_samples=3)
    work = TrialQueue(store, sampler, num_samples=3, round_size=1, learns=False, stack_key=lambda number, values: None)
    searcher = WorkSearcher(work, max_concurrent=2)
    first, second = searcher.suggest("a"), searcher.suggest("b")
    assert searcher.suggest("c") is None
    assert work.give_back(TrialGroup.from_tune(first))
    assert searcher.suggest("d") == first
    work.end(TrialRecord(number=1, values=TrialGroup.from_tune(second).settings[0], status="failed", error="x"))
    assert TrialGroup.from_tune(searcher.suggest("e")).numbers == (2,)
