import math

import pytest
import torch

from faceattr.attributes import AttributeSet
from faceattr.config.fit import FitConfig, LossConfig, OptimConfig, SelectionConfig
from faceattr.errors import ConfigError, RunError
from faceattr.models.freezing import freeze, split_at
from faceattr.models.schedules import Stage
from faceattr.training.loop.checkpoints import load_checkpoint, save_checkpoint
from faceattr.training.loop.fit import EpochBatches, fit
from faceattr.training.loop.ranks import Ranks
from faceattr.training.losses.multi_loss import build_objective, initialise_heads
from faceattr.training.targets import Batch
from tests.training.toy import ATTRIBUTES, HAT, binary, build_toy, count, join, make_batch, split

CPU = torch.device("cpu")
TRAIN = [make_batch(16, seed) for seed in range(6)]
VAL = [make_batch(40, 100 + seed) for seed in range(2)]
COUNTS = count(TRAIN)


def shuffled(epoch):
    order = torch.randperm(len(TRAIN), generator=torch.Generator().manual_seed(epoch)).tolist()
    return (TRAIN[index] for index in order)


def optim(**kwargs):
    return OptimConfig(**{"lr": 1e-2, "epochs": 2, **kwargs})


def train(model, config, *, batches=shuffled, **kwargs):
    return fit(model, epochs(batches), config, counts=COUNTS, ranks=Ranks(device=CPU), **kwargs)


def epochs(train, val=lambda: iter(VAL), *, num_train=6):
    return EpochBatches(train=train, val=val, num_train=num_train)


TIMES = ("train_s", "val_s", "ended", "images_per_s", "data_wait_share")


def curve(history):
    return [{key: value for key, value in record.items() if key not in TIMES} for record in history]


def assert_same_curve(found, wanted, **tolerance):
    for one, other in zip(curve(found), curve(wanted), strict=True):
        assert one == pytest.approx(other, nan_ok=True, **(tolerance or {"rel": 0, "abs": 0}))


def test_a_model_learns_and_is_reported():
    model = build_toy()
    reports = []
    result = train(
        model,
        FitConfig(optim=optim(epochs=12, warmup_epochs=0.5)),
        report=lambda record, state: reports.append((record, state.epoch)),
    )
    first, last = result.history[0], result.history[-1]
    assert last["train/loss"] < 0.6 * first["train/loss"]
    assert last["val/hat/f1"] > 0.85
    assert last["val/person/top1"] > 0.6
    assert last["val/age/mae"] < 15
    assert [epoch for _, epoch in reports] == list(range(1, 13))
    assert [record for record, _ in reports] == result.history
    assert (last["images"], last["steps"]) == (96.0, 6.0)
    assert last["images_per_s"] > 0
    assert 0 <= last["data_wait_share"] <= 1
    assert last["val/loss"] == pytest.approx(sum(last[f"val/{name}/loss"] for name in ATTRIBUTES.names))
    assert result.objective == min(record["val/loss"] for record in result.history)
    assert not model.training


@pytest.mark.parametrize(
    "config",
    [
        FitConfig(optim=optim(epochs=4, ema_decay=0.9, mixup_alpha=0.4, schedule="plateau", plateau_patience=1)),
        FitConfig(loss=LossConfig(weighting="famo"), optim=optim(epochs=4, name="sgd")),
        FitConfig(loss=LossConfig(weighting="uncertainty"), optim=optim(epochs=4, precision="bfloat16")),
        FitConfig(loss=LossConfig(weighting="dwa"), optim=optim(epochs=4, accumulation=2, warmup_epochs=1)),
        FitConfig(optim=optim(epochs=4, swa_epochs=3, cutmix_alpha=1.0)),
    ],
    ids=["ema-mixup-plateau", "famo-sgd", "uncertainty-bf16", "dwa-accumulation", "swa-cutmix"],
)
@pytest.mark.parametrize("stopped_after", [1, 2, 3])
def test_a_resumed_training_continues_the_curve(config, stopped_after, tmp_path):
    stages = [Stage(num_epochs=2, freeze_depth=1, lr=1e-2), Stage(num_epochs=2, freeze_depth=0, lr=5e-3)]
    whole = build_toy(dropout=0.3)
    wanted = train(
        whole,
        config,
        stages=stages,
        report=lambda record, state: save_checkpoint(tmp_path / str(state.epoch), state),
    )
    torch.manual_seed(99)
    resumed = build_toy(seed=7, dropout=0.3)
    found = train(resumed, config, stages=stages, state=load_checkpoint(tmp_path / str(stopped_after)))
    assert_same_curve(found.history, wanted.history)
    assert found.best_epoch == wanted.best_epoch
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, rtol=0, atol=0)


def test_the_plain_average_is_the_mean_of_the_last_epochs():
    """Weights and batch-norm statistics; before the last two epochs the model itself is judged."""
    kept = []

    def keep(record, state):
        kept.append({key: [each.clone() for each in getattr(state, key).values()] for key in ("model", "ema")})

    train(build_toy(), FitConfig(optim=optim(epochs=4, swa_epochs=2, lr=0.05)), report=keep)
    for epoch in (0, 1, 2):
        assert all(map(torch.equal, kept[epoch]["ema"], kept[epoch]["model"]))
    for found, third, fourth in zip(kept[3]["ema"], kept[2]["model"], kept[3]["model"], strict=True):
        # The number of batches that a norm has seen is an integer.
        if found.is_floating_point():
            torch.testing.assert_close(found, (third + fourth) / 2)
    assert not torch.equal(kept[2]["model"][0], kept[3]["model"][0])


def test_training_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(3)
    wanted = torch.rand(2)
    model = build_toy(dropout=0.5)
    torch.manual_seed(3)
    train(model, FitConfig(optim=optim(epochs=1, mixup_alpha=0.3)))
    torch.testing.assert_close(torch.rand(2), wanted)


def test_another_config_is_refused():
    states = []
    train(build_toy(), FitConfig(optim=optim(epochs=1)), report=lambda record, state: states.append(state))
    with pytest.raises(ConfigError, match="another training"):
        train(build_toy(), FitConfig(optim=optim(epochs=2)), state=states[0])


def test_a_finished_training_is_not_trained_again():
    states = []
    config = FitConfig(optim=optim(epochs=2))
    wanted = train(build_toy(), config, report=lambda record, state: states.append(state))
    found = train(build_toy(seed=5), config, state=states[-1], batches=None)
    assert (found.best_epoch, found.objective) == (wanted.best_epoch, wanted.objective)


def test_early_stop_restores_the_best_epoch():
    model = build_toy()
    best = {}

    def report(record, state):
        if record["epoch"] == 0:
            best.update({name: tensor.clone() for name, tensor in state.model.items()})

    # Absurd steps after the first epoch: it only gets worse.
    stages = [Stage(num_epochs=1, freeze_depth=0, lr=1e-2), Stage(num_epochs=20, freeze_depth=0, lr=3.0)]
    config = FitConfig(optim=optim(clip_norm=None, name="adam"), select=SelectionConfig(patience=2))
    result = train(model, config, stages=stages, report=report)
    assert result.stopped_early
    assert result.best_epoch == 0
    assert len(result.history) == 3
    for name, tensor in best.items():
        torch.testing.assert_close(model.state_dict()[name], tensor)


def test_patience_counts_in_the_last_stage_only():
    stages = [Stage(num_epochs=4, freeze_depth="all", lr=1e-9), Stage(num_epochs=2, freeze_depth=0, lr=1e-3)]
    config = FitConfig(optim=optim(), select=SelectionConfig(patience=1, min_delta=1e-3))
    result = train(build_toy(), config, stages=stages)
    assert [record["stage"] for record in result.history] == [0, 0, 0, 0, 1, 1]


def test_stages_freeze_and_thaw():
    model = build_toy()
    stem = model.backbone.module.stem[1].weight.detach().clone()
    seen = []

    def report(record, state):
        seen.append(bool((state.model["backbone.module.stem.1.weight"] == stem).all()))

    stages = [Stage(num_epochs=2, freeze_depth=1, lr=1e-2), Stage(num_epochs=1, freeze_depth=0, lr=1e-2)]
    train(model, FitConfig(optim=optim()), stages=stages, report=report)
    assert seen == [True, True, False]


def test_accumulated_batches_are_one_large_batch():
    # Without batch norm, whose statistics belong to a batch.
    config = FitConfig(optim=optim(epochs=1, name="sgd", schedule="constant"))
    small = FitConfig(optim=optim(epochs=1, name="sgd", schedule="constant", accumulation=3))
    parts = [part for batch in TRAIN for part in split(batch, 9, 5, 2)]
    large_model, small_model = build_toy(norm=False), build_toy(norm=False)
    wanted = train(large_model, config, batches=lambda epoch: iter(TRAIN))
    found = train(small_model, small, batches=lambda epoch: iter(parts))
    assert_same_curve(found.history, wanted.history, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("depth", [1, "all"])
def test_a_suffix_on_cached_activations_trains_alike(depth):
    config = FitConfig(optim=optim(epochs=3, ema_decay=0.9))
    whole, model = build_toy(), build_toy()
    freeze(whole, depth)
    freeze(model, depth)
    wanted = train(whole, config)
    prefix, _ = split_at(model, depth)

    def cached(batches):
        mean = torch.tensor(0.5)
        for batch in batches:
            yield Batch(inputs=prefix((batch.inputs.float() / 255 - mean) / 0.25), targets=batch.targets)

    found = fit(
        model,
        epochs(lambda epoch: cached(shuffled(epoch)), lambda: cached(VAL)),
        config,
        counts=COUNTS,
        ranks=Ranks(device=CPU),
        network=lambda model: split_at(model, depth)[1],
    )
    assert_same_curve(found.history, wanted.history, rel=1e-5, abs=1e-6)


def poisoned(epoch):
    for index, batch in enumerate(TRAIN):
        if (epoch, index) != (1, 3):
            yield batch
            continue
        hat = batch.targets["hat"]
        bad = binary([0] * len(hat), score=[math.inf] * len(hat))
        yield Batch(inputs=batch.inputs, targets={**batch.targets, "hat": bad})


def test_a_loss_that_is_not_finite_stops_with_its_place():
    with pytest.raises(RunError, match=r"epoch 1, step 3: the loss of attribute 'hat' is (nan|inf|-inf)"):
        train(build_toy(), FitConfig(optim=optim()), batches=poisoned)


def test_an_undefined_metric_stops_with_its_name():
    attributes = AttributeSet(attributes=(HAT,))
    no_hats = Batch(inputs=VAL[0].inputs, targets={"hat": binary([0] * len(VAL[0]))})
    with pytest.raises(ConfigError, match=r"'hat/auc' is nan"):
        fit(
            build_toy(attributes),
            epochs(lambda epoch: iter(TRAIN), lambda: iter([no_hats])),
            FitConfig(optim=optim(), select=SelectionConfig(metric="hat/auc")),
            counts=COUNTS,
            ranks=Ranks(device=CPU),
        )


def test_no_data_is_an_error():
    with pytest.raises(RunError, match="epoch 0: a worker got no batch"):
        train(build_toy(), FitConfig(optim=optim()), batches=lambda epoch: iter(()))


def test_an_unknown_metric_is_refused_before_training():
    with pytest.raises(ConfigError, match="hat/f1"):
        train(build_toy(), FitConfig(select=SelectionConfig(metric="hat/f11")), batches=None)


def test_the_loss_is_a_mean_over_rows_whatever_the_batches():
    """Mean of batch means would weigh the rows of a small batch more."""
    model = build_toy()
    config = FitConfig(optim=optim(epochs=1, lr=1e-12))
    kwargs = {"counts": COUNTS, "ranks": Ranks(device=CPU)}
    whole, parts = (
        fit(each, epochs(lambda e: [TRAIN[0]], lambda val=val: val, num_train=1), config, **kwargs).history[0]
        for each, val in ((model, [join(VAL)]), (build_toy(), split(join(VAL), 1, 70, 9)))
    )
    assert {k: v for k, v in parts.items() if k.startswith("val/")} == pytest.approx(
        {k: v for k, v in whole.items() if k.startswith("val/")}, nan_ok=True, abs=1e-5
    )


def test_regression_of_age_learns_from_its_initial_bias():
    model = build_toy(age_output="regression")
    config = FitConfig(optim=optim(epochs=6))
    initialise_heads(model, build_objective(ATTRIBUTES, model.head_configs, config.loss, COUNTS), COUNTS)
    result = train(model, config)
    assert result.history[0]["val/age/mae"] < 25
    assert result.history[-1]["val/age/loss"] < result.history[0]["val/age/loss"]


def test_float16_skips_steps_that_overflow_and_goes_on():
    result = train(build_toy(norm=False), FitConfig(optim=optim(epochs=4, precision="float16")))
    assert result.history[-1]["train/loss"] < result.history[0]["train/loss"]


def test_learnt_weights_are_learnt():
    for weighting, name in (("famo", "_w"), ("uncertainty", "log_var")):
        states = []
        config = FitConfig(loss=LossConfig(weighting=weighting), optim=optim(epochs=1))
        train(build_toy(), config, report=lambda record, state, states=states: states.append(state))
        learnt = states[0].weighting["module"][f"scalarizer.{name}"]
        assert learnt.abs().min() > 1e-4
        assert learnt.std() > 1e-5


def test_an_attribute_without_validation_labels_is_left_out_of_the_loss():
    bare = Batch(
        inputs=VAL[0].inputs,
        targets={**VAL[0].targets, "person": VAL[0].targets["person"].map(torch.zeros_like)},
    )
    model, config = build_toy(), FitConfig(optim=optim(epochs=1))
    batches = epochs(shuffled, lambda: [bare])
    record = fit(model, batches, config, counts=COUNTS, ranks=Ranks(device=CPU)).history[0]
    assert math.isnan(record["val/person/loss"])
    assert record["val/person/count"] == 0
    assert record["val/loss"] == pytest.approx(sum(record[f"val/{name}/loss"] for name in ("hat", "tone", "age")))


def test_gradients_are_clipped():
    model = build_toy(norm=False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = FitConfig(
        optim=optim(epochs=1, name="sgd", momentum=0.0, weight_decay=0.0, schedule="constant", lr=1.0, clip_norm=1e-3)
    )
    train(model, config, batches=lambda epoch: TRAIN[:2])
    moved = torch.cat([(model.state_dict()[name] - tensor).flatten() for name, tensor in before.items()])
    # Two steps of length 1e-3 each.
    assert 1e-4 < float(moved.norm()) <= 2.001e-3
