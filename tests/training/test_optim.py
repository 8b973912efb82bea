import pytest
import torch

from faceattr.config.fit import FitConfig, LossConfig, OptimConfig, SelectionConfig, compute_fingerprint
from faceattr.errors import ConfigError
from faceattr.models.freezing import freeze
from faceattr.training.loop.optim import Schedule, build_ema, build_optimizer, load_optimizer_state
from faceattr.training.loop.selection import Selection
from tests.training.toy import build_toy


def build_schedule(config, *, steps_per_epoch=4, num_epochs=2, larger_is_better=False, extra=()):
    optimizer = build_optimizer(build_toy(), config, lr=config.lr, extra=extra, extra_lr=0.5)
    return Schedule(
        optimizer, config, steps_per_epoch=steps_per_epoch, num_epochs=num_epochs, larger_is_better=larger_is_better
    )


def learning_rates(schedule, num):
    rates = []
    for _ in range(num):
        schedule.before_step()
        rates.append(schedule.lr)
    return rates


def test_warm_up_and_cosine_by_hand():
    schedule = build_schedule(OptimConfig(lr=1.0, warmup_epochs=1.0, min_lr_ratio=0.0))
    # Four steps up, then cos over four: 1, (1 + cos(pi / 4)) / 2, ...; 0 after the end.
    wanted = [0.25, 0.5, 0.75, 1.0, 1.0, 0.853553, 0.5, 0.146447, 0.0, 0.0]
    assert learning_rates(schedule, 10) == pytest.approx(wanted, abs=1e-6)


def test_constant_rates_warm_up_too():
    schedule = build_schedule(OptimConfig(lr=2.0, schedule="constant", warmup_epochs=0.5))
    assert learning_rates(schedule, 4) == [1.0, 2.0, 2.0, 2.0]


@pytest.mark.parametrize(("larger_is_better", "sign"), [(True, 1.0), (False, -1.0)])
def test_plateau_falls_when_the_metric_does_not_improve(larger_is_better, sign):
    config = OptimConfig(lr=1.0, schedule="plateau", plateau_patience=1, plateau_factor=0.5, min_lr_ratio=0.2)
    schedule = build_schedule(config, larger_is_better=larger_is_better)
    rates = []
    for metric in (0.1, 0.2, 0.3, 0.3, 0.2, 0.4, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3):
        learning_rates(schedule, 4)
        schedule.after_epoch(sign * metric)
        rates.append(schedule.lr)
    assert rates == pytest.approx([1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2])


def test_parameters_of_the_loss_weighting_keep_their_rate():
    parameter = torch.nn.Parameter(torch.zeros(2))
    schedule = build_schedule(OptimConfig(lr=1e-3, warmup_epochs=1.0, weight_decay=0.1), extra=[parameter])
    schedule.before_step()
    group = schedule.optimizer.param_groups[-1]
    assert (group["lr"], group["weight_decay"], group["params"]) == (0.5, 0.0, [parameter])


def test_groups_follow_freezing_and_layer_decay():
    model = build_toy()
    freeze(model, 1)
    optimizer = build_optimizer(model, OptimConfig(layer_decay=0.5, weight_decay=0.1), lr=1.0)
    rates = {group["name"]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups}
    assert rates == {
        "block1": (0.5, 0.1),
        "block1_no_decay": (0.5, 0.0),
        "heads": (1.0, 0.1),
        "heads_no_decay": (1.0, 0.0),
    }


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_optimizers_by_name(name):
    assert type(build_optimizer(build_toy(), OptimConfig(name=name), lr=0.1)).__name__.lower() == name


def test_the_moving_average_follows():
    model = build_toy()
    assert build_ema(model, OptimConfig()) is None
    ema = build_ema(model, OptimConfig(ema_decay=0.5))
    before = model.head("hat").bias.detach().clone()
    with torch.no_grad():
        model.head("hat").bias.add_(1.0)
    # Warm-up: 1 - (1 + 1) ** (-2 / 3) = 0.370 of the old value in the second step.
    ema.update(model, step=2)
    torch.testing.assert_close(ema.module.head("hat").bias.detach(), before + 2 ** (-2 / 3))


@pytest.mark.parametrize(
    ("build", "key"),
    [
        (lambda: LossConfig(aux_weight=-1.0), "--loss.aux-weight"),
        (lambda: LossConfig(weighting="gradnorm"), "--loss.weighting"),
        (lambda: LossConfig(label_smoothing=1.0), "--loss.label-smoothing"),
        (lambda: LossConfig(weights={"hat": -1.0}), "--loss.weights.hat"),
        (lambda: OptimConfig(lr=0.0), "--optim.lr"),
        (lambda: OptimConfig(epochs=0), "--optim.epochs"),
        (lambda: OptimConfig(precision="int8"), "--optim.precision"),
        (lambda: OptimConfig(ema_decay=1.0), "--optim.ema-decay"),
        (lambda: OptimConfig(ema_decay=0.9, swa_epochs=1), "--optim.ema-decay"),
        (lambda: OptimConfig(epochs=4, swa_epochs=5), "--optim.swa-epochs"),
        (lambda: OptimConfig(clip_norm=0.0), "--optim.clip-norm"),
        (lambda: SelectionConfig(patience=0), "--select.patience"),
        (
            lambda: FitConfig(loss=LossConfig(weighting="famo"), optim=OptimConfig(accumulation=2)),
            "--optim.accumulation",
        ),
    ],
)
def test_config_errors_name_the_flag(build, key):
    with pytest.raises(ConfigError, match=key):
        build()


def test_fingerprints_differ_with_any_setting():
    assert compute_fingerprint(FitConfig(), [1]) == compute_fingerprint(FitConfig(), [1])
    others = [FitConfig(seed=1), FitConfig(loss=LossConfig(weights={"hat": 1.0})), FitConfig(optim=OptimConfig(lr=1.0))]
    assert len({compute_fingerprint(each) for each in [FitConfig(), *others]}) == 4


KNOWN = ["loss", "hat/f1", "age/mae", "person/top1"]


def test_selection_knows_directions():
    assert not Selection(SelectionConfig(metric="age/mae"), KNOWN).larger_is_better
    chosen = Selection(SelectionConfig(metric="hat/f1", patience=2, min_delta=0.05), KNOWN)
    assert chosen.larger_is_better
    assert [chosen.update(value, epoch) for epoch, value in enumerate((0.5, 0.54, 0.6, 0.6))] == [
        True,
        False,
        True,
        False,
    ]
    assert (chosen.best_epoch, chosen.best_value, chosen.is_over) == (2, 0.6, False)
    chosen.update(0.1, 4)
    assert chosen.is_over
    chosen.start_stage()
    assert not chosen.is_over
    falling = Selection(SelectionConfig(), KNOWN)
    assert [falling.update(value, epoch) for epoch, value in enumerate((0.5, 0.6, 0.4))] == [True, False, True]


def test_selection_combines_figures():
    # FaceCom's score, and an error that counts negative.
    config = SelectionConfig(combine={"hat/f1": 0.3, "person/top1": 0.7, "age/mae": 0.1})
    combined = Selection(config, KNOWN)
    assert combined.larger_is_better
    assert combined.value_of({"hat/f1": 0.5, "person/top1": 1.0, "age/mae": 4.0}, 0) == pytest.approx(0.45)


def test_unknown_metrics_are_refused_with_near_names():
    with pytest.raises(ConfigError, match=r"'hat/f2'.*hat/f1"):
        Selection(SelectionConfig(metric="hat/f2"), KNOWN)


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
@pytest.mark.parametrize("was_fused", [None, True])
@pytest.mark.parametrize("is_fused", [None, True])
def test_a_state_is_resumed_by_a_fused_optimizer_and_by_another(optimizer, was_fused, is_fused):
    """torch would take over from the state whether to fuse."""
    settings = {"lr": 0.1, **({"momentum": 0.9} if optimizer is torch.optim.SGD else {})}
    gradients = [torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.2, 0.1, -1.0])]

    def build(fused, start):
        weight = torch.nn.Parameter(start.clone())
        return weight, optimizer([weight], fused=fused, **settings)

    def step(weight, built, gradient):
        weight.grad = gradient.clone()
        built.step()

    start = torch.tensor([0.3, -0.1, 2.0])
    wanted, whole = build(None, start)
    weight, first = build(was_fused, start)
    step(wanted, whole, gradients[0])
    step(weight, first, gradients[0])
    resumed, second = build(is_fused, weight.detach())
    load_optimizer_state(second, first.state_dict())
    assert second.param_groups[0]["fused"] is is_fused
    step(wanted, whole, gradients[1])
    step(resumed, second, gradients[1])
    torch.testing.assert_close(resumed, wanted)


def test_weights_on_a_cpu_are_updated_by_torchs_own_choice():
    for name in ("adamw", "adam", "sgd"):
        built = build_optimizer(build_toy(), OptimConfig(name=name), lr=1e-3)
        assert {group["fused"] for group in built.param_groups} == {None}


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_weights_on_a_gpu_are_updated_in_one_kernel_also_when_they_began_on_a_cpu(name):
    def step(model, optimizer):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()

    config = OptimConfig(name=name)
    model = build_toy()
    before = build_optimizer(model, config, lr=1e-3)
    step(model, before)
    moved = build_toy()
    moved.load_state_dict(model.state_dict())
    after = build_optimizer(moved.to("cuda"), config, lr=1e-3)
    load_optimizer_state(after, before.state_dict())
    assert {group["fused"] for group in after.param_groups} == {True}
    step(model, before)
    step(moved, after)
    for key, tensor in moved.state_dict().items():
        torch.testing.assert_close(tensor.cpu(), model.state_dict()[key])
