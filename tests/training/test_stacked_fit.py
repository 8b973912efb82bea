from dataclasses import replace

import pytest
import torch

from faceattr.config.fit import FitConfig, LossConfig, OptimConfig, SelectionConfig
from faceattr.models.freezing import freeze, split_at
from faceattr.models.heads import HeadConfig
from faceattr.models.multitask import MultiAttributeModel
from faceattr.training.features.stacked_fit import fit_stacked, shared_settings, why_not_stacked
from faceattr.training.loop.fit import EpochBatches, fit
from faceattr.training.loop.ranks import Ranks
from faceattr.training.targets import Batch
from tests.training.toy import ATTRIBUTES, ToyBackbone, count, make_batch

CPU = torch.device("cpu")
IMAGES = [make_batch(16, seed) for seed in range(6)]
VAL_IMAGES = [make_batch(40, 100 + seed) for seed in range(2)]
COUNTS = count(IMAGES)


def build(hidden=(), dropout=0.0):
    torch.manual_seed(0)
    heads = {name: HeadConfig(hidden=hidden, dropout=dropout) for name in ATTRIBUTES.names}
    model = MultiAttributeModel(ToyBackbone(), ATTRIBUTES, heads=heads)
    freeze(model, "all")
    return model


def features(model, batches):
    prefix, _ = split_at(model, "all")
    return [Batch(inputs=prefix((each.inputs.float() / 255 - 0.5) / 0.25), targets=each.targets) for each in batches]


def batches(train, val):
    return EpochBatches(train=lambda epoch: iter(train[epoch % 2 :: 2]), val=lambda: iter(val), num_train=3)


def alone(model, config, train, val):
    return fit(
        model,
        batches(train, val),
        config,
        counts=COUNTS,
        ranks=Ranks(device=CPU),
        network=lambda model: split_at(model, "all")[1],
    )


def stacked(model, configs, train, val, **kwargs):
    return fit_stacked(
        model,
        batches(train, val),
        configs,
        counts=COUNTS,
        device=CPU,
        **kwargs,
    )


def configs(**optim):
    shared = OptimConfig(**{"epochs": 5, "warmup_epochs": 0.5, **optim})
    return [
        FitConfig(optim=replace(shared, lr=1e-2)),
        FitConfig(optim=replace(shared, lr=3e-2), loss=LossConfig(main="hat", label_weight=0.9, aux_weight=0.05)),
        FitConfig(optim=replace(shared, lr=3e-1, weight_decay=0.3), loss=LossConfig(weights={"age": 0.0})),
        FitConfig(optim=replace(shared, lr=1e-4, weight_decay=0.0), loss=LossConfig(weights={"tone": 5.0})),
    ]


@pytest.mark.parametrize(
    ("heads", "changes"),
    [
        ({}, {}),
        ({}, {"clip_norm": None, "schedule": "constant"}),
        ({"hidden": (7, 5)}, {"clip_norm": 0.1}),
        ({"hidden": (7,), "dropout": 0.4}, {}),
    ],
    ids=["linear", "unclipped", "mlp", "dropout"],
)
def test_every_trial_of_a_stack_is_as_it_is_alone(heads, changes):
    settings = configs(**changes)
    start = build(**heads)
    train, val = features(start, IMAGES), features(start, VAL_IMAGES)
    found = stacked(start, settings, train, val)
    distinct = set()
    for config, trial in zip(settings, found, strict=True):
        model = build(**heads)
        wanted = alone(model, config, train, val)
        assert trial.error is None
        assert trial.best_epoch == wanted.best_epoch
        assert trial.objective == pytest.approx(wanted.objective, rel=1e-4)
        for record, other in zip(trial.history, wanted.history, strict=True):
            assert record == pytest.approx({key: other[key] for key in record}, rel=1e-4, abs=1e-5, nan_ok=True)
        for name, tensor in trial.heads.items():
            torch.testing.assert_close(tensor, model.heads.state_dict()[name], rtol=1e-3, atol=1e-5)
        distinct.add(round(trial.objective, 6))
    assert len(distinct) == len(settings)
    for name, tensor in build(**heads).state_dict().items():
        torch.testing.assert_close(start.state_dict()[name], tensor)


def test_a_stack_computes_in_the_precision_of_its_trials():
    settings = configs(precision="bfloat16")
    train, val = features(build(), IMAGES), features(build(), VAL_IMAGES)
    in_float32 = stacked(build(), configs(), train, val)
    for config, trial, exact in zip(settings, stacked(build(), settings, train, val), in_float32, strict=True):
        wanted = alone(build(), config, train, val)
        assert trial.objective == pytest.approx(wanted.objective, rel=1e-3)
        assert trial.objective != exact.objective


def test_a_chosen_figure_and_patience_are_those_of_each_trial():
    settings = [
        replace(config, select=SelectionConfig(metric="hat/f1", patience=1)) for config in configs(epochs=8, lr=1e-2)
    ]
    start = build()
    train, val = features(start, IMAGES), features(start, VAL_IMAGES)
    found = stacked(start, settings, train, val)
    lengths = []
    for config, trial in zip(settings, found, strict=True):
        wanted = alone(build(), config, train, val)
        assert (trial.best_epoch, len(trial.history)) == (wanted.best_epoch, len(wanted.history))
        assert trial.objective == pytest.approx(wanted.objective, abs=1e-6)
        lengths.append(len(trial.history))
    assert min(lengths) < 8


def test_a_trial_that_diverges_does_not_touch_the_others():
    settings = configs(clip_norm=None)
    wild = replace(settings[0], optim=replace(settings[0].optim, lr=1e38))
    start = build()
    train, val = features(start, IMAGES), features(start, VAL_IMAGES)
    wanted = stacked(start, settings, train, val)
    found = stacked(start, [wild, *settings], train, val)
    assert "is not finite" in found[0].error
    for one, other in zip(found[1:], wanted, strict=True):
        assert one.error is None
        assert one.objective == pytest.approx(other.objective, rel=1e-5)


def test_reports_come_after_every_epoch():
    start = build()
    train, val = features(start, IMAGES), features(start, VAL_IMAGES)
    seen = []
    stacked(start, configs(), train, val, report=lambda epoch, trials: seen.append((epoch, len(trials[0].history))))
    assert seen == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]


def test_what_a_stack_shares_and_what_it_cannot_do():
    first, second, third, fourth = configs()
    assert shared_settings(first) == shared_settings(second) == shared_settings(third) == shared_settings(fourth)
    smoothed = replace(first, loss=LossConfig(label_smoothing=0.1))
    assert shared_settings(smoothed) != shared_settings(first)
    assert why_not_stacked(first) is None
    assert "ema" in why_not_stacked(FitConfig(optim=OptimConfig(ema_decay=0.9)))
    assert why_not_stacked(FitConfig(optim=OptimConfig(precision="bfloat16"))) is None
    assert "float16" in why_not_stacked(FitConfig(optim=OptimConfig(precision="float16")))
    assert "sgd" in why_not_stacked(FitConfig(optim=OptimConfig(name="sgd")))
    assert "famo" in why_not_stacked(FitConfig(loss=LossConfig(weighting="famo")))
