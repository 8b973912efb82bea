import math

import pytest
import torch

from faceattr.attributes import AttributeSet
from faceattr.config.fit import LossConfig
from faceattr.errors import ConfigError
from faceattr.models.heads import NUM_YEARS
from faceattr.training.losses.multi_loss import build_objective, compute_loss_weights, initialise_heads
from tests.training.toy import AGE, ATTRIBUTES, HAT, TONE, binary, build_toy, classes, count, make_batch, split

NAMES = ("label", "hat", "glasses")


def objective_for(model, batches, config=LossConfig()):  # noqa: B008
    return build_objective(model.attributes, model.head_configs, config, count(batches, model.attributes))


def test_loss_weights_of_main_and_auxiliary_attributes():
    assert compute_loss_weights(NAMES, LossConfig()).tolist() == [1.0, 1.0, 1.0]
    weights = compute_loss_weights(NAMES, LossConfig(main="label", weights={"glasses": 2.0}))
    torch.testing.assert_close(weights, torch.tensor([0.7, 0.1, 0.2]))


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (LossConfig(main="cap"), "--loss.main"),
        (LossConfig(weights={"cap": 1.0}), "--loss.weights"),
        (LossConfig(class_weighted=("cap",)), "--loss.class-weighted"),
        (LossConfig(weights=dict.fromkeys(NAMES, 0.0)), "above 0"),
    ],
)
def test_weights_of_unknown_attributes_are_refused(config, text):
    with pytest.raises(ConfigError, match=text):
        compute_loss_weights(NAMES, config)


def test_an_attribute_without_labels_is_refused():
    model = build_toy(AttributeSet(attributes=(HAT, TONE)))
    counts = {"hat": torch.tensor([1.0, 1.0]), "tone": torch.zeros(3)}
    with pytest.raises(ConfigError, match=r"'tone'.*no label"):
        build_objective(model.attributes, model.head_configs, LossConfig(), counts)


def test_losses_are_divided_by_their_priors():
    model = build_toy(AttributeSet(attributes=(HAT, TONE)))
    counts = {"hat": torch.tensor([1.0, 1.0]).double(), "tone": torch.tensor([1.0, 1.0, 1.0]).double()}
    objective = build_objective(model.attributes, model.head_configs, LossConfig(normalised="all"), counts)
    torch.testing.assert_close(objective.priors, torch.tensor([math.log(2), math.log(3)]))
    targets = {"hat": binary([1, 0]), "tone": classes([0, None], 3)}
    outputs = {"hat": torch.zeros(2, 1), "tone": torch.zeros(2, 3)}
    denominators = objective.sum_weights(targets)
    assert denominators.tolist() == [2.0, 1.0]
    # Knowing nothing costs 1, whatever the number of classes.
    torch.testing.assert_close(objective(outputs, targets, denominators), torch.ones(2))
    plain = build_objective(model.attributes, model.head_configs, LossConfig(normalise=False), counts)
    torch.testing.assert_close(plain(outputs, targets, denominators), objective.priors)


def test_only_a_loss_of_another_unit_is_divided_by_its_prior():
    attributes = AttributeSet(attributes=(HAT, TONE, AGE))
    ages = torch.zeros(NUM_YEARS).double()
    ages[20], ages[40] = 1, 1
    counts = {"hat": torch.tensor([1.0, 1.0]).double(), "tone": torch.tensor([1.0, 1.0, 1.0]).double(), "age": ages}
    in_years = build_toy(attributes, age_output="regression")
    in_nats = build_toy(attributes, age_output="distribution")
    config = LossConfig(normalised="units")
    priors = {
        model: build_objective(attributes, model.head_configs, config, counts).priors.tolist()
        for model in (in_years, in_nats)
    }
    assert priors[in_years][:2] == [1, 1]
    # The variance of ages of 20 and 40 years.
    assert priors[in_years][2] == pytest.approx(100, rel=0.01)
    assert priors[in_nats] == [1, 1, 1]


@pytest.mark.parametrize("age_output", ["regression", "distribution"])
def test_initial_heads_start_at_the_prior(age_output):
    batch = make_batch(64, 0)
    model = build_toy(age_output=age_output).eval()
    objective = objective_for(model, [batch], LossConfig(normalised="all"))
    initialise_heads(model, objective, count([batch]))
    for name in ATTRIBUTES.names:
        torch.nn.init.zeros_(model.head(name).weight)
    losses = objective(model(batch.inputs / 255), batch.targets, objective.sum_weights(batch.targets))
    # Coarse labels and ranges are easier than the exact ones that the prior is made of.
    assert losses.tolist() == pytest.approx([1.0, 0.85, 0.85, 1.0], abs=0.16)


def test_shares_of_parts_add_up_to_the_whole():
    batch = make_batch(16, 1)
    model = build_toy(norm=False)
    objective = objective_for(model, [batch])
    denominators = objective.sum_weights(batch.targets)
    whole = objective(model(batch.inputs / 255), batch.targets, denominators)
    parts = [objective(model(b.inputs / 255), b.targets, denominators) for b in split(batch, 9, 5, 2)]
    torch.testing.assert_close(torch.stack(parts).sum(0), whole)
    part_sums = torch.stack([objective.sum_weights(b.targets) for b in split(batch, 9, 5, 2)])
    torch.testing.assert_close(part_sums.sum(0), denominators)


def test_attributes_without_a_label_in_the_batch_have_a_gradient_of_zero():
    batch = make_batch(8, 2)
    model = build_toy(norm=False)
    objective = objective_for(model, [batch])
    bare = {name: each.map(torch.zeros_like) for name, each in batch.targets.items()}
    losses = objective(model(batch.inputs / 255), bare, objective.sum_weights(bare))
    assert losses.tolist() == [0.0] * 4
    losses.sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() == 0 for p in model.parameters())


def test_age_in_years_and_gender_weigh_alike():
    # The UTKFace ViT adds the squared error of ages, some hundreds, to two cross entropies below 2.
    model = build_toy(AttributeSet(attributes=(HAT, AGE)), age_output="regression")
    batch = make_batch(64, 3)
    objective = objective_for(model, [batch])
    assert objective.priors[1] > 100
    outputs = {"hat": torch.zeros(64, 1), "age": torch.full((64, 1), 40.0)}
    losses = objective(outputs, batch.targets, objective.sum_weights(batch.targets))
    assert 0.3 < float(losses[1] / losses[0]) < 3
