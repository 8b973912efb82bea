"""How trials are compared, by hand values and by scikit-learn on rows that are really repeated."""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score

from faceattr.config import StorageConfig
from faceattr.config.fit import OptimConfig
from faceattr.config.search import ObjectiveConfig, RepeatConfig, StopConfig
from faceattr.config.train import FreezeConfig, TrainConfig
from faceattr.data.stores.local import LocalStore
from faceattr.jobs.search.trial import is_kept
from faceattr.jobs.search.tune import build_scheduler
from faceattr.search.comparison.draws import Resamples, draw_resamples
from faceattr.search.comparison.front import find_front
from faceattr.search.comparison.halving import BoundsHalving, choose_grace, list_rungs
from faceattr.search.comparison.repeats import gather_repeats, list_repeats, rank_finished
from faceattr.search.comparison.ties import (
    QUANTILE,
    bound_objective,
    compare_trials,
    describe_ties,
    find_ties,
)
from faceattr.search.judge import Judge
from faceattr.search.records import Judgement, TrialRecord, begin_trial, end_trial, read_records
from faceattr.search.space import parse_space
from faceattr.search.trial_queue import TrialQueue
from faceattr.yaml_files import load_yaml
from tests.search.test_objective import TARGETS, judge, outputs
from tests.training.toy import ATTRIBUTES, ages, binary

LR = "optim.lr: {uniform: [0.1, 1]}"


def judgement(objective, draws=(), auxiliary=None):
    return Judgement(objective=objective, auxiliary=auxiliary, by_attribute={}, thresholds={}, draws=tuple(draws))


def trial(number, objective, draws=(), *, status="finished", auxiliary=None, **values):
    found = None if objective is None else judgement(objective, draws, auxiliary)
    return TrialRecord(number=number, values={"optim.lr": 0.5, **values}, status=status, judgement=found)


@pytest.mark.parametrize(
    ("epochs", "warmup", "freeze", "space", "grace"),
    [
        (1, 0.0, {}, LR, 1),
        (2, 0.0, {}, LR, 2),  # nothing is left to stop
        (4, 0.0, {}, LR, 2),
        (9, 0.5, {}, LR, 3),
        (10, 0.5, {}, LR, 4),
        (30, 2.5, {}, LR, 6),
        (30, 5.0, {}, LR, 6),
        (30, 5.5, {}, LR, 7),
        (9, 0.0, {}, "optim.warmup_epochs: {uniform: [0, 3]}", 4),
        (16, 0.5, {"schedule": "two-stage", "head_epochs": 5}, LR, 7),
        (16, 0.5, {"schedule": "constant", "head_epochs": 5}, LR, 4),
        (16, 0.5, {}, "freeze.schedule: {choice: [constant, two-stage]}\nfreeze.head_epochs: {randint: [2, 8]}", 10),
        (4, 3.5, {}, LR, 4),
    ],
)
def test_every_trial_gets_the_epochs_that_a_comparison_needs(epochs, warmup, freeze, space, grace):
    optim = OptimConfig(epochs=epochs, warmup_epochs=warmup, lr=0.1)
    base = TrainConfig(
        data=("packed",), output="out", optim=optim, freeze=FreezeConfig(**freeze) if epochs > 5 else FreezeConfig()
    )
    assert choose_grace(base, parse_space(load_yaml(space, ""), "")) == grace


def test_a_late_starter_of_nine_epochs_is_not_stopped_in_the_first():
    """As it was: the winner was below six others after one epoch of nine."""
    first = [0.60, 0.61, 0.62, 0.63, 0.64, 0.65]

    class Trial(NamedTuple):
        trial_id: str

    def decide(grace, epoch, objective, others):
        scheduler = build_scheduler(StopConfig(grace_epochs=grace), num_epochs=9)
        for number, other in enumerate(others):
            scheduler.on_trial_add(None, Trial(str(number)))
            scheduler.on_trial_result(None, Trial(str(number)), {"epoch": epoch, "objective": other})
        scheduler.on_trial_add(None, Trial("late"))
        return scheduler.on_trial_result(None, Trial("late"), {"epoch": epoch, "objective": objective})

    assert decide(1, 1, 0.59, first) == "STOP"
    assert decide(3, 1, 0.59, first) == "CONTINUE"
    assert decide(3, 3, 0.66, first) == "CONTINUE"
    assert decide(3, 3, 0.59, first) == "STOP"


def test_rungs():
    assert list_rungs(3, 3, 9) == [3]
    assert list_rungs(1, 3, 9) == [1, 3]
    assert list_rungs(6, 2, 30) == [6, 12, 24]
    assert list_rungs(9, 3, 9) == []


def test_bounds_stop_only_what_is_clearly_worse():
    halving = BoundsHalving([1, 3], 3)

    def report(name, epoch, objective, half):
        return halving.stops(name, epoch, objective=objective, low=objective - half, high=objective + half)

    assert not report("a", 1, 0.5, 0.25)  # the first has none to be compared with
    assert not report("b", 1, 0.25, 0.125)  # 0.375 against the lower bound 0.25 of a
    assert not report("c", 1, 0.125, 0.125)  # 0.25 is not below 0.25
    assert report("d", 1, 0.0625, 0.125)  # 0.1875 against a's 0.25, the best of three
    assert not report("e", 1, 0.75, 0.0)
    # Of five, the second is compared with: a. Not e, whose lower bound is 0.75.
    assert not report("f", 1, 0.25, 0.0625)
    assert not report("a", 2, 0.0, 0.0)  # between rungs
    assert not report("a", 3, 0.5, 0.0)
    assert report("b", 3, 0.25, 0.125)
    assert not report("b", 4, 0.0, 0.0)  # compared once at a rung
    # Whose bounds are not known is not stopped, and stops none.
    unknown = BoundsHalving([1], 2)
    assert not unknown.stops("a", 1, objective=0.9, low=math.nan, high=math.nan)
    assert not unknown.stops("b", 1, objective=0.1, low=0.0, high=0.2)
    assert not unknown.stops("c", 1, objective=0.0, low=math.nan, high=math.nan)


def test_the_scheduler_of_bounds_remembers_the_session_before():
    past = replace(trial(0, 0.75), history=(0.5, 0.75), bounds=((0.25, 0.625), (0.5, 1.0)))
    scheduler = build_scheduler(StopConfig(rule="bounds", grace_epochs=1), num_epochs=9, records=[past])

    class Trial(NamedTuple):
        trial_id: str

    def report(name, high, epoch=1):
        result = {"epoch": epoch, "objective": 0.125, "low": 0.0, "high": high}
        return scheduler.on_trial_result(None, Trial(name), result)

    assert report("a", 0.25) == "CONTINUE"
    assert report("b", 0.125) == "STOP"
    assert scheduler.on_trial_result(None, Trial("c"), {"epoch": 0, "objective": math.nan}) == "CONTINUE"


def test_draws_are_the_figures_of_the_rows_that_were_drawn():
    resamples = draw_resamples(8, None, seed=3, num_resamples=40)
    assert resamples.times.sum(1).tolist() == [8] * 40
    one = judge(main="hat")
    given = outputs()
    given["hat"] = torch.tensor([-3.0, 2.0, 1.0, -1.0, 9.0, 2.0, -2.0, 3.0])[:, None]
    for name, reference in (
        ("hat", lambda labels, said: f1_score(labels, said) if sum(labels) else math.nan),
        ("tone", lambda labels, said: f1_score(labels, said, average="macro")),
        ("person", lambda labels, said: float(np.mean(np.array(labels) == said))),
        ("age", lambda labels, said: float(np.mean(np.abs(np.array(labels) - said) <= 5))),
    ):
        alone = Judge(one.attributes, ObjectiveConfig(), main=name, seed=0)
        found = alone.judge(given, TARGETS, resamples)
        known = TARGETS[name].known.numpy()
        labels = TARGETS[name].value.numpy()
        if name == "hat":
            # Both halves choose a cut of their own; what they say is taken from the figure of all rows.
            said = alone._judge_binary(given[name][known], labels[known].astype(np.int64)).said
            everything = np.zeros(8, bool)
            everything[known] = said
        elif name == "age":
            known &= (labels[:, 1] - labels[:, 0]) <= 1
            labels, everything = labels[:, 0], given[name][:, 0].numpy()
        else:
            everything = given[name].argmax(1).numpy()
        for draw, times in zip(found.draws, resamples.times, strict=True):
            rows = np.repeat(np.arange(8), times)
            rows = rows[known[rows]]
            wanted = reference(labels[rows].astype(int).tolist(), everything[rows]) if len(rows) else math.nan
            assert draw == pytest.approx(wanted, abs=1e-6, nan_ok=True), name


def test_every_row_once_gives_the_objective_itself():
    once = Resamples(np.ones((2, 8), np.uint8))
    for settings in ({}, {"auxiliary_weight": 0.25}, {"auxiliary_weight": 0.25, "two": True}, {"criterion": "youden"}):
        for main in ("hat", None):
            if main is None and settings.get("two"):
                continue
            found = judge(main=main, **settings).judge(outputs(), TARGETS, once)
            assert found.draws == pytest.approx((found.objective, found.objective), abs=1e-6)
    balanced = judge(main="tone", criterion="balanced_accuracy").judge(outputs(), TARGETS, once)
    wanted = balanced_accuracy_score([0, 1, 2, 2, 1, 0, 0], [0, 1, 2, 1, 1, 0, 0])
    assert balanced.draws[0] == pytest.approx(wanted, abs=1e-6)
    assert judge().judge(outputs(), TARGETS).draws == ()


def test_the_standard_error_of_a_share_is_that_of_the_binomial():
    num = 400
    targets = {"age": ages([40] * num)}
    given = {"age": torch.tensor([40.0] * 320 + [60.0] * 80)[:, None]}
    attributes = ATTRIBUTES.__class__(attributes=(ATTRIBUTES["age"],))
    one = Judge(attributes, ObjectiveConfig(), main=None, seed=5)
    found = one.judge(given, targets, one.draw_resamples(num, None))
    assert found.objective == 0.8
    assert found.standard_error == pytest.approx(math.sqrt(0.8 * 0.2 / num), rel=0.15)
    low, high = bound_objective(found)
    assert (low, high) == pytest.approx((0.8 - 1.96 * 0.02, 0.8 + 1.96 * 0.02), abs=0.01)
    # Four rows of each person: a fourth of the independent units, twice the standard error.
    grouped = one.judge(given, targets, one.draw_resamples(num, np.arange(num) // 4))
    assert grouped.standard_error == pytest.approx(2 * math.sqrt(0.8 * 0.2 / num), rel=0.15)


def test_rows_that_belong_together_are_drawn_together():
    clusters = np.array([5, 9, 5, 9, 9, 7])
    times = draw_resamples(6, clusters, seed=1).times
    assert (times[:, 0] == times[:, 2]).all()
    assert (times[:, 1] == times[:, 3]).all()
    assert (times[:, [0, 1, 5]].sum(1) == 3).all()
    assert np.array_equal(times, draw_resamples(6, clusters, seed=1).times)
    assert not np.array_equal(times, draw_resamples(6, clusters, seed=2).times)


def test_trials_are_compared_on_the_same_images():
    best = trial(0, 0.6, (0.5, 0.6, 0.7))
    parallel = trial(1, 0.5, (0.4, 0.5, 0.6))
    crossed = trial(2, 0.58, (0.7, 0.5, 0.6))
    found = compare_trials(best.judgement, parallel.judgement)
    assert (found.value, found.standard_error) == pytest.approx((0.1, 0.0), abs=1e-12)
    assert found.is_real  # although each has a standard error of 0.1
    assert best.judgement.standard_error == pytest.approx(0.1)
    found = compare_trials(best.judgement, crossed.judgement)
    # -0.2, 0.1, 0.1: mean 0, squares 0.04 + 0.01 + 0.01, divided by 2.
    assert (found.value, found.standard_error) == pytest.approx((0.02, math.sqrt(0.03)))
    assert not found.is_real
    # Stopped and failed trials, and those of an earlier version, are not said to be tied.
    others = [replace(crossed, number=3, status="stopped"), trial(4, 0.6), trial(5, None, status="failed")]
    assert find_ties(best, [best, parallel, crossed, *others]) == [crossed]
    told = describe_ties(best, [best, parallel, crossed, *others])
    assert told.startswith("t0002 cannot be told apart from t0000 on these validation images: behind by less than 1.96")
    alone = describe_ties(best, [best, parallel])
    assert alone == "every other finished trial is behind t0000 by more than 1.96 standard errors of the difference"
    stopped = replace(parallel, status="stopped")
    assert describe_ties(best, [best, stopped]).startswith("no other trial has finished")
    assert pytest.approx(1.959964) == QUANTILE


def test_the_front_is_of_finished_trials():
    trials = [
        trial(0, 0.9, auxiliary=0.5),
        trial(1, 0.8, auxiliary=0.6),
        trial(2, 0.8, auxiliary=0.55),
        trial(3, 0.7, auxiliary=0.9, status="stopped"),
        trial(4, 0.9, auxiliary=0.5),
        trial(5, None, status="failed"),
    ]
    assert [each.number for each in find_front(trials)] == [0, 1, 4]


class Plan(NamedTuple):
    """What `is_kept` reads of a plan."""

    trials_uri: str
    keep: int
    keep_front: bool

    @property
    def inputs(self):
        class Inputs(NamedTuple):
            storage: StorageConfig

        return Inputs(StorageConfig())


def test_models_of_the_best_and_of_the_front_are_kept(tmp_path):
    store = LocalStore(tmp_path)
    for each in (trial(0, 0.9, auxiliary=0.5), trial(1, 0.8, auxiliary=0.6), trial(2, 0.95, status="stopped")):
        end_trial(store, each)

    def kept(keep, keep_front, objective, auxiliary=None):
        return is_kept(Plan(str(tmp_path), keep, keep_front), judgement(objective, auxiliary=auxiliary))

    assert [kept(1, False, each) for each in (0.95, 0.9, 0.85)] == [True, True, False]
    assert [kept(2, False, each) for each in (0.85, 0.8, 0.7)] == [True, True, False]
    assert [kept(1, True, 0.7, each) for each in (0.7, 0.6, 0.55)] == [True, False, False]
    assert not kept(0, False, 1.0)


def test_the_choice_between_repeated_trials_is_made_on_the_mean(tmp_path):
    trials = [trial(0, 0.9), trial(1, 0.88, seed=7), trial(2, 0.8), trial(3, 0.99, status="stopped")]
    assert [each.number for each in rank_finished(trials)] == [0, 1, 2]
    settings = RepeatConfig(top=2, seeds=3)
    wanted = dict(list_repeats(settings, trials, shared_seed=42))
    assert {number: values["seed"] for number, values in wanted.items()} == {0: 43, 1: 44, 2: 8, 3: 9}
    assert wanted[2] == {"optim.lr": 0.5, "seed": 8}
    repeats = {0: trial(0, 0.7), 1: trial(1, 0.8), 2: trial(2, 0.86), 3: trial(3, 0.87)}
    first, second = gather_repeats(settings, trials, repeats)
    assert (first.trial.number, first.mean, first.deviation) == pytest.approx((1, 0.87, 0.01))
    assert (second.trial.number, second.mean, second.deviation) == pytest.approx((0, 0.8, 0.1))
    assert str(first) == "t0001  mean 0.8700 over 3 seeds, standard deviation 0.0100 (0.8800, 0.8600, 0.8700)"
    # One that failed does not count; one that is not over neither.
    repeats = {0: trial(0, None, status="failed"), 2: trial(2, 0.5)}
    first, second = gather_repeats(settings, trials, repeats)
    assert (first.trial.number, first.objectives, first.num_failed) == (0, (0.9,), 2)
    assert math.isnan(first.deviation)
    assert list(list_repeats(RepeatConfig(), trials, shared_seed=42)) == []


def test_a_queue_without_a_sampler_hands_out_what_was_begun(tmp_path):
    store = LocalStore(tmp_path)
    for number in (6, 7):
        begin_trial(store, number, {"seed": number})
    queue = TrialQueue(store, None, num_samples=2, round_size=1, learns=False, stack_key=lambda number, values: None)
    first = queue.take()
    assert (first.numbers, first.settings) == ((6,), ({"seed": 6},))
    queue.end(replace(trial(6, 0.5), values={"seed": 6}))
    assert not queue.is_over
    again = TrialQueue(store, None, num_samples=2, round_size=1, learns=False, stack_key=lambda number, values: None)
    assert again.take().numbers == (7,)
    assert again.take() is None
    again.end(replace(trial(7, 0.6), values={"seed": 7}))
    assert again.is_over


def test_draws_and_bounds_survive_the_way_through_json(tmp_path):
    store = LocalStore(tmp_path)
    wanted = replace(trial(0, 0.5, (0.25, math.nan)), history=(0.5,), bounds=((0.25, math.nan),))
    end_trial(store, wanted)
    (found,) = read_records(store)
    assert found.judgement.draws[0] == 0.25
    assert math.isnan(found.judgement.draws[1])
    assert found.bounds[0][0] == 0.25
    assert math.isnan(found.bounds[0][1])
    assert math.isnan(found.judgement.standard_error)


def test_an_attribute_that_is_undefined_in_a_resample_is_left_out_of_the_error():
    few = binary([1, 1, 0, 0, 0, 0, 0, 0])
    attributes = ATTRIBUTES.__class__(attributes=(ATTRIBUTES["hat"],))
    one = Judge(attributes, ObjectiveConfig(), main="hat", seed=0)
    given = {"hat": torch.tensor([2.0, 3.0, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0])[:, None]}
    never = np.ones((3, 8), np.uint8)
    never[0, :2] = 0
    found = one.judge(given, {"hat": few}, Resamples(never))
    assert math.isnan(found.draws[0])
    assert found.standard_error == 0.0
