import json
import math

import pytest

from faceattr.data.stores.local import LocalStore
from faceattr.errors import ConfigError
from faceattr.search.records import (
    Judgement,
    TrialRecord,
    TrialReport,
    best_trial,
    end_trial,
    load_judgements,
    read_begun,
    read_records,
    save_judgements,
    tabulate,
)
from faceattr.search.sampler import Sampler, compute_importances
from faceattr.search.space import parse_space
from faceattr.search.trial_queue import TrialGroup, TrialQueue
from faceattr.yaml_files import load_yaml

SPACE = parse_space(
    load_yaml("optim.lr: {uniform: [0.1, 1]}\nfreeze.depth: {choice: [all, 3]}\nseed: {randint: [1, 9]}", ""), ""
)


def judged(objective, auxiliary=None, **thresholds):
    return Judgement(objective=objective, auxiliary=auxiliary, by_attribute={"hat": objective}, thresholds=thresholds)


def record(number, objective, values=None, status="finished", **kwargs):
    values = values or {"optim.lr": 0.5, "freeze.depth": "all", "seed": 1}
    judgement = None if objective is None else judged(objective, hat=0.25)
    return TrialRecord(number=number, values=values, status=status, judgement=judgement, **kwargs)


def sampler(algorithm="random", records=(), **kwargs):
    return Sampler(SPACE, algorithm, seed=7, two_objectives=False, num_samples=20, records=records, **kwargs)


def worklist(store, *, num_samples=6, round_size=1, learns=False, key=lambda number, values: None, algorithm="random"):
    return TrialQueue(
        store,
        sampler(algorithm, read_records(store)),
        num_samples=num_samples,
        round_size=round_size,
        learns=learns,
        stack_key=key,
    )


def test_records_survive_the_way_through_json(tmp_path):
    store = LocalStore(tmp_path)
    wanted = record(3, 0.5, figures={"hat/f1": 0.4, "age/mae": math.nan}, history=(0.25, 0.5), best_epoch=1)
    end_trial(store, wanted)
    end_trial(store, record(1, None, status="failed", error="too hot"))
    first, found = read_records(store)
    assert (first.number, first.status, first.error, first.judgement) == (1, "failed", "too hot", None)
    assert found.judgement == wanted.judgement
    assert found.history == (0.25, 0.5)
    assert math.isnan(found.figures["age/mae"])
    json.loads((tmp_path / "trials/t0003/record.json").read_text(), parse_constant=pytest.fail)


def test_a_report_says_how_its_trials_are_to_be_kept():
    group = TrialGroup(numbers=(4, 7), settings=({"optim.lr": 0.5}, {"optim.lr": 0.6}), stacked=True)
    failed = TrialReport(records=group.fail("too hot"), state="failed")
    assert TrialReport.decode(failed.encode()) == failed
    assert [(each.number, each.values["optim.lr"], each.error) for each in failed.records] == [
        (4, 0.5, "too hot"),
        (7, 0.6, "too hot"),
    ]
    goes_on = TrialReport(records=(record(1, 0.25, status="stopped", history=(0.25, math.nan)),), state="running")
    (found,) = TrialReport.decode(goes_on.encode()).records
    assert (found.status, found.judgement, found.history[0]) == ("stopped", goes_on.records[0].judgement, 0.25)
    assert math.isnan(found.history[1])


def test_judgements_after_the_checkpoint_are_left_out(tmp_path):
    store = LocalStore(tmp_path)
    judgements = [judged(0.25, hat=0.5), judged(0.5, auxiliary=0.125)]
    save_judgements(store, judgements)
    assert load_judgements(store, 2) == judgements
    assert load_judgements(store, 1) == judgements[:1]


def test_the_best_trial_has_finished():
    records = [
        record(0, 0.7),
        record(1, 0.9, status="stopped"),
        record(2, 0.8),
        record(3, 0.8),
        record(4, None, status="failed"),
    ]
    assert best_trial(records).number == 2
    assert best_trial(records[1:2]) is None


def test_the_table_has_a_column_for_every_setting():
    table = tabulate([record(0, 0.5), record(1, None, status="failed")], SPACE, ["hat"])
    assert table["optim.lr"].to_pylist() == [0.5, 0.5]
    assert table["freeze.depth"].to_pylist() == ["all", "all"]
    assert table["seed"].to_pylist() == [1, 1]
    assert table["value/hat"].to_pylist() == [0.5, None]
    assert table["threshold/hat"].to_pylist() == [0.25, None]


def test_random_settings_follow_from_the_number_alone():
    first, second = sampler(), sampler(records=[record(0, 0.1)])
    assert [first.ask(number) for number in range(5)] == [second.ask(number) for number in range(5)]
    assert len({json.dumps(first.ask(number)) for number in range(20)}) == 20


def test_tpe_learns_where_the_objective_is_large():
    drawn = sampler("tpe")
    seen = []
    for number in range(40):
        values = drawn.ask(number)
        seen.append(values["optim.lr"])
        drawn.tell(record(number, -((values["optim.lr"] - 0.9) ** 2), values))
    assert sum(abs(lr - 0.9) for lr in seen[-10:]) < 0.7 * sum(abs(lr - 0.9) for lr in seen[:10])


def test_tpe_goes_on_from_the_records():
    drawn = sampler("tpe")
    past = [record(number, values["optim.lr"], values) for number, values in enumerate(map(drawn.ask, range(15)))]
    again = sampler("tpe", past)
    values = [again.ask(number)["optim.lr"] for number in range(15, 35)]
    assert sum(values) / len(values) > 0.65  # of 0.1 to 1
    assert values[:4] != [each.values["optim.lr"] for each in past[:4]]


def test_tpe_that_goes_on_does_not_draw_again_what_was_begun():
    begun = sampler("tpe").ask(0)  # and killed before it was over
    assert sampler("tpe").ask(0) == begun
    assert sampler("tpe", num_begun=1).ask(1) != begun


def test_settings_that_matter_are_found():
    drawn = sampler()
    records = []
    for number in range(30):
        values = drawn.ask(number)
        records.append(record(number, values["optim.lr"] + 0.001 * values["seed"], values))
    found = compute_importances(SPACE, records)
    assert next(iter(found)) == "optim.lr"
    assert found["optim.lr"] > 0.8
    assert compute_importances(SPACE, records[:3]) == {}
    assert compute_importances(SPACE, [record(number, 0.5) for number in range(9)]) == {}


def test_trials_are_noted_before_they_start_and_gone_on_with(tmp_path):
    store = LocalStore(tmp_path)
    first = worklist(store)
    taken = [first.take(), first.take(), first.take()]
    first.end(record(1, 0.5, taken[1].settings[0]))
    assert first.num_running == 2
    again = worklist(store)  # the driver was killed
    assert list(again.records) == [1]
    rest = []
    while (work := again.take()) is not None:
        rest.append(work)
    assert [work.numbers for work in rest] == [(0,), (2,), (3,), (4,), (5,)]
    assert rest[0] == taken[0]
    assert rest[1] == taken[2]
    for work in rest:
        assert not again.is_over
        again.end(record(work.numbers[0], 0.1, work.settings[0]))
    assert again.is_over
    assert len(again.ordered()) == 6
    assert read_begun(store) == {each.number: each.values for each in read_records(store)}


def test_work_that_could_not_start_is_given_out_again(tmp_path):
    work = worklist(LocalStore(tmp_path), num_samples=2)
    first = work.take()
    assert work.give_back(first)
    assert not work.give_back(first)  # it is not out
    assert work.take() == first
    work.end(record(0, 0.5))
    assert not work.give_back(first)
    assert work.take().numbers == (1,)


def test_trials_of_one_kind_make_a_stack(tmp_path):
    def key(number, values):
        return "heads" if values["freeze.depth"] == "all" else None

    work = worklist(LocalStore(tmp_path), num_samples=12, round_size=12, key=key)
    pieces = []
    while (piece := work.take()) is not None:
        pieces.append(piece)
    (stack,) = [piece for piece in pieces if piece.stacked]
    assert {values["freeze.depth"] for values in stack.settings} == {"all"}
    assert all(len(piece.numbers) == 1 for piece in pieces if not piece.stacked)
    assert sorted(number for piece in pieces for number in piece.numbers) == list(range(12))
    assert TrialGroup.from_tune(stack.to_tune()) == stack


def test_a_round_waits_for_the_one_before_it_to_learn(tmp_path):
    work = worklist(
        LocalStore(tmp_path), round_size=3, learns=True, key=lambda number, values: "heads", algorithm="tpe"
    )
    first = work.take()
    assert first.numbers == (0, 1, 2)
    assert work.take() is None
    for number, values in zip(first.numbers, first.settings, strict=True):
        assert not work.is_over
        work.end(record(number, 0.5, values))
    assert work.take().numbers == (3, 4, 5)


def test_settings_that_do_not_go_together_are_a_failed_trial(tmp_path):
    def key(number, values):
        if number == 1:
            raise ConfigError("head_epochs: expected less")

    work = worklist(LocalStore(tmp_path), num_samples=3, key=key)
    assert [work.take().numbers, work.take().numbers] == [(0,), (2,)]
    assert work.records[1].status == "failed"
    assert "expected less" in read_records(LocalStore(tmp_path))[0].error
