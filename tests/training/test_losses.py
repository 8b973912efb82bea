import math

import pytest
import torch
from sklearn.metrics import log_loss
from timm.loss import AsymmetricLossMultiLabel
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from faceattr.config.fit import LossConfig
from faceattr.training.age import predict_age, spread_ages, years_within
from faceattr.training.losses.attribute_loss import AgeLoss, BinaryLoss, ClassLoss, build_attribute_loss
from tests.training.toy import AGE, HAT, PERSON, TONE, ages, binary, classes

PLAIN = LossConfig()
GENERATOR = torch.Generator().manual_seed(0)


def mean(loss, outputs, targets):
    return loss.losses(outputs, targets).sum() / loss.weights(targets).sum()


def logits(num, outputs=1):
    return torch.randn(num, outputs, generator=GENERATOR)


def test_binary_cross_entropy_by_hand():
    # log 2 at a logit of 0; -log sigmoid(log 3) = -log 3/4; -log(1 - 3/4) = log 4.
    outputs = torch.tensor([[0.0], [math.log(3)], [math.log(3)]])
    losses = BinaryLoss(PLAIN).losses(outputs, binary([1, 1, 0]))
    torch.testing.assert_close(losses, torch.tensor([math.log(2), math.log(4 / 3), math.log(4)]))


def test_binary_variants_equal_their_references():
    x, y = logits(9), [0, 1, 1, 0, 0, 1, 0, 1, 1]
    t = torch.tensor(y, dtype=torch.float32)
    weight = torch.tensor(3.0)
    weighted = functional.binary_cross_entropy_with_logits(x[:, 0], t, pos_weight=weight)
    torch.testing.assert_close(mean(BinaryLoss(PLAIN, weight), x, binary(y)), weighted)
    smooth = functional.binary_cross_entropy_with_logits(x[:, 0], t * 0.8 + 0.1)
    torch.testing.assert_close(mean(BinaryLoss(LossConfig(label_smoothing=0.2)), x, binary(y)), smooth)
    focal = LossConfig(binary="focal", focal_alpha=0.3, focal_gamma=1.5)
    reference = sigmoid_focal_loss(x[:, 0], t, 0.3, 1.5, "mean")
    torch.testing.assert_close(mean(BinaryLoss(focal), x, binary(y)), reference)
    asymmetric = AsymmetricLossMultiLabel(gamma_neg=3, gamma_pos=1, reduction="mean")(x, t[:, None])
    config = LossConfig(binary="asymmetric", asymmetric_gammas=(3.0, 1.0))
    torch.testing.assert_close(mean(BinaryLoss(config), x, binary(y)), asymmetric)
    assert float(mean(BinaryLoss(PLAIN), x, binary(y))) == pytest.approx(log_loss(y, x[:, 0].sigmoid()), rel=1e-5)


def test_scores_are_targets_weighted_by_confidence_and_mass():
    x = logits(4)
    # |2 * 0.9 - 1| ** 2 * 0.5 = 0.32; a score of 0.5 says nothing; no score: the label counts in full.
    targets = binary([1, None, 0, None], score=[0.9, 0.5, None, None], weight=[0.5, 1.0, 1.0, 1.0])
    loss = BinaryLoss(LossConfig(confidence_gamma=2.0))
    torch.testing.assert_close(loss.weights(targets), torch.tensor([0.32, 0.0, 1.0, 0.0]))
    reference = functional.binary_cross_entropy_with_logits(
        x[:, 0], torch.tensor([0.9, 0.5, 0.0, 0.0]), reduction="none"
    )
    torch.testing.assert_close(loss.losses(x, targets), reference * torch.tensor([0.32, 0.0, 1.0, 0.0]))
    even = BinaryLoss(LossConfig(confidence_gamma=0.0))
    torch.testing.assert_close(even.weights(targets), torch.tensor([0.5, 1.0, 1.0, 0.0]))
    hard = BinaryLoss(LossConfig(soft_labels=False))
    torch.testing.assert_close(hard.weights(targets), torch.tensor([1.0, 0.0, 1.0, 0.0]))


def test_class_loss_equals_torch_with_weights_and_smoothing():
    x, y = logits(7, 3), [0, 2, 1, 1, 0, 2, 2]
    weights = torch.tensor([0.5, 1.0, 2.0])
    loss = ClassLoss(LossConfig(label_smoothing=0.1), 3, weights)
    reference = functional.cross_entropy(x, torch.tensor(y), weight=weights, label_smoothing=0.1)
    torch.testing.assert_close(mean(loss, x, classes(y, 3)), reference)


def test_coarse_labels_are_sums_of_classes():
    # Softmax of these logits is (1, 2, 5) / 8.
    x = torch.tensor([[1.0, 2.0, 5.0]]).log().expand(3, -1)
    loss = ClassLoss(PLAIN, 3)
    losses = loss.losses(x, classes([{0, 2}, 1, {0, 1}], 3))
    torch.testing.assert_close(losses, torch.tensor([math.log(8 / 6), math.log(4), math.log(8 / 3)]))
    weighted = ClassLoss(PLAIN, 3, torch.tensor([1.0, 1.0, 4.0]))
    torch.testing.assert_close(weighted.weights(classes([{0, 2}, None, 2], 3)), torch.tensor([2.5, 0.0, 4.0]))


def test_class_scores_are_targets():
    x, score = logits(3, 3), torch.tensor([[0.2, 0.3, 0.5], [math.nan] * 3, [1.0, 0.0, 0.0]])
    targets = classes([None, 1, 2], 3, score=score)
    losses = ClassLoss(PLAIN, 3).losses(x, targets)
    wanted = functional.cross_entropy(x, torch.tensor([[0.2, 0.3, 0.5], [0, 1, 0], [1.0, 0, 0]]), reduction="none")
    torch.testing.assert_close(losses, wanted)
    hard = ClassLoss(LossConfig(soft_labels=False), 3)
    assert hard.weights(targets).tolist() == [0.0, 1.0, 1.0]


def test_age_in_years_by_hand():
    outputs = torch.tensor([[27.0], [18.0], [24.0], [31.0], [5.0]])
    losses = AgeLoss(PLAIN, "regression").losses(outputs, ages([25, (20, 30), (20, 30), (20, 30), None]))
    # A range ends with the completed year 29.
    assert losses.tolist() == [4.0, 4.0, 0.0, 4.0, 0.0]


def test_age_distribution_by_hand():
    loss = AgeLoss(PLAIN, "distribution")
    even = torch.zeros(3, 117)
    losses = loss.losses(even, ages([(20, 30), (70, 117), None]))
    torch.testing.assert_close(losses, torch.tensor([math.log(117 / 10), math.log(117 / 47), 0.0]))
    soft = spread_ages(torch.tensor([40.0]), 2.0)
    # The Gaussian is e^(-1/8) lower a year away, and the best prediction has loss 0.
    torch.testing.assert_close(soft[0, 41] / soft[0, 40], torch.tensor(math.exp(-1 / 8)))
    bell = -((torch.arange(117.0) - 40) ** 2) / 8
    torch.testing.assert_close(loss.losses(bell[None], ages([40])), torch.zeros(1), atol=1e-6, rtol=0)
    against_even = (soft[0] * (soft[0] * 117).clamp(min=1e-30).log()).sum()
    torch.testing.assert_close(loss.losses(even[:1], ages([40]))[0], against_even)


def test_age_predictions():
    half = torch.full((1, 117), -torch.inf)
    half[0, [20, 30]] = 0.0
    assert predict_age(half).tolist() == [25.0]
    assert predict_age(torch.tensor([[31.5]])).tolist() == [31.5]
    assert years_within(torch.tensor([[3.0, 5.0]])).nonzero()[:, 1].tolist() == [3, 4]


CASES = {
    "binary": (BinaryLoss(PLAIN), 1, binary([1, None, 0, None, 1])),
    "asymmetric": (BinaryLoss(LossConfig(binary="asymmetric")), 1, binary([1, None, 0, None, 1])),
    "focal": (BinaryLoss(LossConfig(binary="focal")), 1, binary([1, None, 0, None, 1])),
    "generalised": (BinaryLoss(LossConfig(robust="generalised")), 1, binary([1, None, 0, None, 1])),
    "symmetric": (ClassLoss(LossConfig(robust="symmetric"), 3), 3, classes([1, None, {0, 2}, None, 2], 3)),
    "soft": (BinaryLoss(PLAIN), 1, binary([1, None, 0, None, 1], score=[0.9, None, 0.2, None, None])),
    "class": (ClassLoss(PLAIN, 3), 3, classes([1, None, {0, 2}, None, 2], 3)),
    "years": (AgeLoss(PLAIN, "regression"), 1, ages([30, None, (20, 30), None, 7])),
    "distribution": (AgeLoss(PLAIN, "distribution"), 117, ages([30, None, (20, 30), None, 7])),
}


@pytest.mark.parametrize("case", CASES)
def test_missing_labels_equal_missing_rows(case):
    loss, num_outputs, targets = CASES[case]
    whole = logits(5, num_outputs).requires_grad_()
    rows = torch.tensor([0, 2, 4])
    part = whole.detach()[rows].requires_grad_()
    value, wanted = mean(loss, whole, targets), mean(loss, part, targets.take(rows))
    torch.testing.assert_close(value, wanted)
    # Not even a NaN on the way that is masked later, which would mislead who looks for another one.
    with torch.autograd.set_detect_anomaly(True):
        value.backward()
    wanted.backward()
    torch.testing.assert_close(whole.grad[rows], part.grad)
    assert whole.grad[[1, 3]].abs().max() == 0.0


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_right(case):
    loss, num_outputs, targets = CASES[case]

    def total(outputs):
        return loss.losses(outputs, targets).sum()

    outputs = (logits(5, num_outputs) * 0.3).requires_grad_()
    total(outputs).backward()
    direction = logits(5, num_outputs)
    step = 1e-2 * direction
    slope = (total(outputs.detach() + step) - total(outputs.detach() - step)) / 2e-2
    torch.testing.assert_close((outputs.grad * direction).sum(), slope, rtol=2e-2, atol=2e-2)


def test_large_logits_of_a_wrong_or_missing_label_stay_finite():
    for loss, num_outputs, targets in CASES.values():
        outputs = torch.full((5, num_outputs), 200.0)
        outputs[:, 0] = -200.0
        outputs.requires_grad_()
        mean(loss, outputs, targets).backward()
        assert outputs.grad.isfinite().all()


def test_priors_are_entropies_and_variances():
    counts = torch.tensor([30.0, 10.0], dtype=torch.float64)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert BinaryLoss(PLAIN).compute_prior(counts) == pytest.approx(entropy, rel=1e-5)
    # pos_weight 3 makes a coin of it: 0.75 log 2 + 3 * 0.25 log 2.
    assert BinaryLoss(PLAIN, torch.tensor(3.0)).compute_prior(counts) == pytest.approx(1.5 * math.log(2), rel=1e-5)
    three = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    assert ClassLoss(PLAIN, 3).compute_prior(three) == pytest.approx(1.5 * math.log(2), rel=1e-5)
    years = torch.zeros(117, dtype=torch.float64)
    years[[20, 40]] = 5.0
    assert AgeLoss(PLAIN, "regression").compute_prior(years) == pytest.approx(100.0)
    # Two ages far apart: knowing which would save log 2.
    assert AgeLoss(PLAIN, "distribution").compute_prior(years) == pytest.approx(math.log(2), rel=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_no_constant_prediction_is_better_than_the_prior(smoothing):
    config = LossConfig(label_smoothing=smoothing)
    counts = torch.tensor([5.0, 1.0, 2.0], dtype=torch.float64)
    loss = ClassLoss(config, 3, torch.tensor([0.5, 2.0, 1.0]))
    best, targets = loss.constant_outputs(counts), loss.examples()
    denominator = (counts * loss.weights(targets)).sum()
    for _ in range(20):
        other = (best + 0.1 * logits(1, 3)).expand(3, -1)
        assert float((counts * loss.losses(other, targets)).sum() / denominator) >= loss.compute_prior(counts) - 1e-6


def test_an_attribute_with_one_label_only_has_a_prior():
    assert BinaryLoss(PLAIN).compute_prior(torch.tensor([0.0, 7.0], dtype=torch.float64)) == 0.01


def test_class_weights_follow_the_config():
    counts = torch.tensor([30.0, 10.0], dtype=torch.float64)
    balanced = LossConfig(class_weights="balanced", class_weighted=("hat",))
    assert build_attribute_loss(HAT, balanced, counts, age_output="regression").pos_weight == 3.0
    three = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    assert build_attribute_loss(TONE, balanced, three, age_output="regression").class_weights.tolist() == [1, 1, 1]
    weighted = build_attribute_loss(TONE, LossConfig(class_weights="balanced"), three, age_output="regression")
    torch.testing.assert_close(weighted.class_weights, torch.tensor([4 / 3, 2 / 3, 4 / 3]))
    assert isinstance(build_attribute_loss(PERSON, PLAIN, torch.ones(4), age_output="regression"), ClassLoss)
    assert isinstance(build_attribute_loss(AGE, PLAIN, torch.ones(117), age_output="regression"), AgeLoss)
