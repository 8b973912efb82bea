"""Training settings, as frozen groups. Errors name the key as the user writes it: `--loss.aux-weight`."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from faceattr.config import PrecisionChoice
from faceattr.config.checks import check, check_choice, flag_name

Weighting = Literal["constant", "uncertainty", "dwa", "famo"]
BinaryLossName = Literal["bce", "asymmetric", "focal"]
RobustLossName = Literal["off", "generalised", "symmetric"]
ClassWeighting = Literal["auto", "none", "root", "balanced", "effective"]
OptimizerName = Literal["adamw", "adam", "sgd"]
ScheduleName = Literal["cosine", "plateau", "constant"]
Auto = Literal["auto"]
"""A setting that `faceattr.training.recipe` chooses from what the training starts from."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The loss."""

    main: str | None = None
    """The attribute that a run is judged by. Without it, all attributes have weight 1."""
    label_weight: float = 0.7
    """Loss weight of the main attribute."""
    aux_weight: float = 0.1
    """Loss weight of each other attribute."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Extra factors on loss weights: attribute and factor."""
    weighting: Weighting = "constant"
    """How loss weights change during training: `uncertainty`, `dwa` (dynamic weight averaging) and `famo` learn a
    balance on top of the weights. `uncertainty` and `famo` do not depend on the scale of a loss, so they cancel the
    weights."""
    weighting_lr: float = 0.025
    """Learning rate of learnt loss weights (uncertainty, famo)."""
    dwa_temperature: float = 2.0
    """Temperature of dynamic weight averaging; a higher one gives more even weights."""
    normalise: bool = True
    """Bring losses to one scale: the losses that --loss.normalised selects are divided by the loss of a model that
    knows only the label frequencies. Off: losses are summed as they are."""
    normalised: Literal["auto", "units", "all"] = field(default="auto", metadata={"before": "all"})
    """Which losses are normalised. `units`: only losses of ages predicted as one number, whose unit is squared years,
    so that they weigh like a cross entropy; cross entropies are in nats already and stay as they are. `all`: every
    loss, which gives less weight to attributes with many classes. auto: `units`; a resumed run that used `all` keeps
    it."""
    binary: BinaryLossName = "bce"
    """Loss of binary attributes."""
    asymmetric_gammas: tuple[float, float] = (4.0, 1.0)
    """Focusing exponents of the asymmetric loss for negatives and positives."""
    focal_gamma: float = 2.0
    """Focusing exponent of the focal loss."""
    focal_alpha: float = 0.25
    """Weight of positives in the focal loss, in [0, 1]; -1 weighs positives and negatives alike."""
    class_weights: ClassWeighting = "auto"
    """Class weights: `balanced`, inverse to the class counts; `effective`, inverse to the effective numbers of samples;
    `root`, inverse to the square roots of the counts, for attributes with several classes only (for a binary one, the
    threshold serves this purpose). auto: `root`."""
    class_weighted: tuple[str, ...] = ()
    """Attributes with class weights. Default: all."""
    max_class_weight: float = 100.0
    """Largest ratio between two class weights of one attribute, and between two frequencies of logit adjustment."""
    logit_adjustment: float = field(default=0.0, metadata={"before": 0.0})
    """Factor of the log class frequencies that the loss adds to the outputs. With 1, scores are as if all classes were
    equally frequent, so that rare classes are found more often, at the cost of accuracy. It takes the place of class
    weights. 0: none."""
    logit_adjusted: tuple[str, ...] = field(default=(), metadata={"before": ()})
    """Attributes with logit adjustment. Default: all but ages."""
    label_smoothing: float = 0.0
    """Share of a label's weight that is spread over all classes, in [0, 1)."""
    attribute_smoothing: Mapping[str, float] = field(default_factory=dict, metadata={"before": {}})
    """Label smoothing of single attributes, in place of --loss.label-smoothing: attribute and share."""
    ordinal: tuple[str, ...] = field(default=(), metadata={"before": ()})
    """Attributes with several classes whose order has a meaning, such as age_group: the loss is larger the further a
    prediction is from the label, in classes as the attribute lists them. Outputs stay one score per class."""
    arcface_margin: float = field(default=0.0, metadata={"before": 0.0})
    """Angle in radians by which a face must be nearer to its own person than cross entropy asks (ArcFace), for identity
    attributes; 0.5 is usual. Their heads then give cosines times --loss.arcface-scale. 0: plain heads."""
    arcface_scale: float = field(default=64.0, metadata={"before": 64.0})
    """ArcFace: factor of the cosines; 64 for thousands of persons, less for few."""
    soft_labels: bool = True
    """Learn from scores where the data have them, else from labels. Off: learn from labels only."""
    confidence_gamma: float = 1.0
    """A row with a binary score p has the weight |2p - 1| ** gamma; 0 weighs all rows alike."""
    abstained: Literal["score", "unlabelled"] = field(default="score", metadata={"before": "score"})
    """What is learnt where the labelling model abstained: its `score`, or nothing (`unlabelled`), as for images without
    a label."""
    robust: RobustLossName = field(default="off", metadata={"before": "off"})
    """A loss that wrong labels disturb less, in place of cross entropy (not for ages): `generalised` cross entropy
    (Zhang & Sabuncu 2018) or `symmetric` cross entropy (Wang et al. 2019)."""
    robust_q: float = field(default=0.7, metadata={"before": 0.7})
    """generalised: exponent in (0, 1]; near 0 it is the cross entropy, at 1 the absolute error, which learns most
    slowly and resists most."""
    symmetric_weights: tuple[float, float] = field(default=(0.1, 1.0), metadata={"before": (0.1, 1.0)})
    """symmetric: weights of the cross entropy and of the reversed one."""
    consistency: float = field(default=0.0, metadata={"before": 0.0})
    """Weight of a loss that asks for the same scores on a second view of each image, labelled or not. It doubles the
    time of a step. 0: off."""
    age_sigma_years: float = 2.0
    """Standard deviation of the soft label of an exact age, in years, for heads that predict a distribution."""

    def __post_init__(self) -> None:
        check_choice("loss.weighting", self.weighting, Weighting)
        check_choice("loss.binary", self.binary, BinaryLossName)
        check(self.normalised in ("auto", "units", "all"), "loss.normalised", self.normalised, "auto, units or all")
        check_choice("loss.class-weights", self.class_weights, ClassWeighting)
        for name in ("label_weight", "aux_weight", "confidence_gamma", "focal_gamma", "consistency"):
            check(getattr(self, name) >= 0, f"loss.{flag_name(name)}", getattr(self, name), "0 or more")
        for name in ("weighting_lr", "dwa_temperature", "age_sigma_years"):
            check(getattr(self, name) > 0, f"loss.{flag_name(name)}", getattr(self, name), "more than 0")
        for name, weight in self.weights.items():
            check(weight >= 0, f"loss.weights.{name}", weight, "0 or more")
        check(min(self.asymmetric_gammas) >= 0, "loss.asymmetric-gammas", self.asymmetric_gammas, "0 or more")
        alpha = self.focal_alpha
        check(alpha == -1 or 0 <= alpha <= 1, "loss.focal-alpha", alpha, "a number from 0 to 1, or -1")
        margin, scale = self.arcface_margin, self.arcface_scale
        check(0 <= margin < math.pi / 2, "loss.arcface-margin", margin, "at least 0 and below half of pi, 1.57")
        check(scale > 0, "loss.arcface-scale", scale, "more than 0")
        check_choice("loss.robust", self.robust, RobustLossName)
        check(
            self.robust == "off" or self.binary == "bce",
            "loss.robust",
            self.robust,
            f"off with --loss.binary {self.binary}; a robust loss takes the place of bce",
        )
        check(
            self.robust == "off" or not self.ordinal,
            "loss.robust",
            self.robust,
            "off with --loss.ordinal, which has a loss of its own",
        )
        check(0 < self.robust_q <= 1, "loss.robust-q", self.robust_q, "more than 0, at most 1")
        check(min(self.symmetric_weights) >= 0, "loss.symmetric-weights", self.symmetric_weights, "0 or more")
        check(max(self.symmetric_weights) > 0, "loss.symmetric-weights", self.symmetric_weights, "one above 0")
        check(self.abstained in ("score", "unlabelled"), "loss.abstained", self.abstained, "score or unlabelled")
        check(self.max_class_weight >= 1, "loss.max-class-weight", self.max_class_weight, "1 or more")
        check(0 <= self.label_smoothing < 1, "loss.label-smoothing", self.label_smoothing, "at least 0 and below 1")
        for name, share in self.attribute_smoothing.items():
            check(0 <= share < 1, f"loss.attribute-smoothing.{name}", share, "at least 0 and below 1")
        check(self.logit_adjustment >= 0, "loss.logit-adjustment", self.logit_adjustment, "0 or more")
        check(
            self.logit_adjustment > 0 or not self.logit_adjusted,
            "loss.logit-adjusted",
            self.logit_adjusted,
            "none without --loss.logit-adjustment",
        )
        adjusted, weighted = set(self.logit_adjusted), set(self.class_weighted)
        both = weighted if self.logit_adjustment and not adjusted else adjusted & weighted
        check(
            not both,
            "loss.class-weighted",
            self.class_weighted,
            "attributes without --loss.logit-adjustment, which takes the place of class weights",
        )
        check(
            not self.logit_adjustment or self.class_weights not in ("balanced", "effective") or bool(weighted),
            "loss.class-weights",
            self.class_weights,
            "auto, none or root with --loss.logit-adjustment, unless --loss.class-weighted names other attributes",
        )

    def adjustment_of(self, name: str) -> float:
        """Returns the factor of logit adjustment of an attribute with classes; above 0, it has no class weights."""
        return self.logit_adjustment if name in (self.logit_adjusted or (name,)) else 0.0

    def smoothing_of(self, name: str) -> float:
        """Returns the label smoothing of an attribute."""
        return self.attribute_smoothing.get(name, self.label_smoothing)


@dataclass(frozen=True, kw_only=True)
class OptimSettings:
    """Optimisation. `auto` is chosen from what the training starts from, and shown before it starts."""

    epochs: int = 30
    """Passes over the training images."""
    name: OptimizerName = "adamw"
    """Optimizer."""
    lr: float | Auto = "auto"
    """Peak learning rate of the heads."""
    weight_decay: float | Auto = "auto"
    """Weight decay of weights; biases, norms and embeddings have none."""
    layer_decay: float | Auto = "auto"
    """Factor on the learning rate from each block to the block before it, in (0, 1]."""
    momentum: float = 0.9
    """Momentum of SGD (Nesterov)."""
    schedule: ScheduleName = "cosine"
    """Learning-rate schedule: `cosine` falls within each stage; `plateau` falls when the selection metric stalls."""
    warmup_epochs: float | Auto = "auto"
    """Epochs over which the learning rate rises at the start of each stage; may be a fraction."""
    min_lr_ratio: float = 0.01
    """Lowest learning rate, as a share of the peak, in [0, 1]."""
    plateau_patience: int = 3
    """plateau: epochs without improvement before the learning rate falls."""
    plateau_factor: float = 0.5
    """plateau: factor by which the learning rate falls, in (0, 1)."""
    clip_norm: float | None = 1.0
    """Largest gradient norm; larger gradients are scaled down to it. None: no clipping."""
    accumulation: int = 1
    """Batches per optimizer step; the result equals that of one large batch."""
    ema_decay: float | Auto | None = "auto"
    """Decay of the moving average of the weights. The averaged weights are validated and saved. None: no average."""
    swa_epochs: int = field(default=0, metadata={"before": 0})
    """Last epochs whose weights, as each epoch ends, have one plain average (stochastic weight averaging), which is
    validated and saved in place of a moving average. --optim.schedule constant lets them differ enough. 0: none."""
    precision: PrecisionChoice = "auto"
    """Data type of the network's computation; losses and weights stay float32. auto: bfloat16 on GPUs from Ampere on,
    else float32; a resumed run keeps what it began with. On CPUs, bfloat16 pays only where they have instructions for
    it. float32 on a GPU uses TF32."""
    mixup_alpha: float = 0.0
    """Parameter of the Beta distribution that blends pairs of images (mixup); 0: no mixup."""
    cutmix_alpha: float = field(default=0.0, metadata={"before": 0.0})
    """Parameter of the Beta distribution of the area of each image that a part of another image replaces (CutMix); 0:
    none. With mixup too, each batch has one of the two, as likely as the other."""

    def __post_init__(self) -> None:
        check_choice("optim.name", self.name, OptimizerName)
        check_choice("optim.schedule", self.schedule, ScheduleName)
        check_choice("optim.precision", self.precision, PrecisionChoice)
        for name in ("epochs", "accumulation"):
            check(getattr(self, name) >= 1, f"optim.{name}", getattr(self, name), "1 or more")
        lr, layer_decay = self.lr, self.layer_decay
        check(lr == "auto" or lr > 0, "optim.lr", lr, "more than 0, or auto")
        for name in ("weight_decay", "warmup_epochs", "plateau_patience", "mixup_alpha", "cutmix_alpha"):
            value = getattr(self, name)
            check(value == "auto" or value >= 0, f"optim.{flag_name(name)}", value, "0 or more")
        check(layer_decay == "auto" or 0 < layer_decay <= 1, "optim.layer-decay", layer_decay, "more than 0, at most 1")
        check(0 <= self.momentum < 1, "optim.momentum", self.momentum, "at least 0 and below 1")
        check(0 <= self.min_lr_ratio <= 1, "optim.min-lr-ratio", self.min_lr_ratio, "a number from 0 to 1")
        check(0 < self.plateau_factor < 1, "optim.plateau-factor", self.plateau_factor, "between 0 and 1")
        swa = self.swa_epochs
        check(0 <= swa <= self.epochs, "optim.swa-epochs", swa, f"0 to --optim.epochs ({self.epochs})")
        alone = not swa or self.ema_decay in (None, "auto")
        check(alone, "optim.ema-decay", self.ema_decay, "None or auto with --optim.swa-epochs, which is an average too")
        clip, decay = self.clip_norm, self.ema_decay
        check(clip is None or clip > 0, "optim.clip-norm", clip, "more than 0")
        check(decay is None or decay == "auto" or 0 < decay < 1, "optim.ema-decay", decay, "between 0 and 1")

    @property
    def mixes_images(self) -> bool:
        """Whether training images are mixed in pairs, by mixup or CutMix."""
        return bool(self.mixup_alpha or self.cutmix_alpha)


@dataclass(frozen=True, kw_only=True)
class OptimConfig(OptimSettings):
    """Optimisation settings that `fit` reads: without any `auto`, except a precision, which the device decides."""

    lr: float = 1e-4
    weight_decay: float = 1e-4
    layer_decay: float = 1.0
    warmup_epochs: float = 0.0
    ema_decay: float | None = None
    precision: PrecisionChoice = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        left = [name for name in AUTO_OPTIM if getattr(self, name) == "auto"]
        check(not left, f"optim.{flag_name(left[0])}" if left else "", "auto", "a number, once a recipe is resolved")


AUTO_OPTIM = ("lr", "weight_decay", "layer_decay", "warmup_epochs", "ema_decay")
"""Optimiser settings that may be `auto`."""


@dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """Which epoch is best, and when to stop waiting for a better one."""

    metric: str = "loss"
    """`loss`, or a validation metric such as `hat/f1`, `age/mae` or `person/top1`."""
    combine: Mapping[str, float] = field(default_factory=dict)
    """Metrics and weights, in place of --select.metric: the best epoch has the largest weighted sum. Errors count
    negatively."""
    patience: int | None = 10
    """Epochs of the last stage without improvement before training stops. None: never stops early."""
    min_delta: float = 0.0
    """Smallest change that counts as an improvement."""

    def __post_init__(self) -> None:
        check(bool(self.metric), "select.metric", self.metric, "`loss` or `<attribute>/<figure>`")
        check(self.patience is None or self.patience >= 1, "select.patience", self.patience, "1 or more")
        check(self.min_delta >= 0, "select.min-delta", self.min_delta, "0 or more")


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Everything that `faceattr.training.loop.fit` reads."""

    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    select: SelectionConfig = field(default_factory=SelectionConfig)
    seed: int = 42
    """Random seed of dropout, mixup and CutMix."""

    def __post_init__(self) -> None:
        learnt = self.loss.weighting in ("uncertainty", "famo")
        check(
            not (learnt and self.optim.accumulation > 1),
            "optim.accumulation",
            self.optim.accumulation,
            f"1, since --loss.weighting {self.loss.weighting} balances the losses of whole steps",
        )
        check(
            not (self.loss.consistency and self.optim.mixes_images),
            "loss.consistency",
            self.loss.consistency,
            "0 with --optim.mixup-alpha and --optim.cutmix-alpha: an image made of two has no scores of its own",
        )


def compute_fingerprint(*parts: Any) -> str:
    """Returns the SHA-256 of dataclasses and JSON values, which a checkpoint has to match."""
    text = json.dumps(parts, default=list_deciding, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def list_deciding(config: Any) -> dict[str, Any]:
    """Returns field -> value of a dataclass, groups as mappings: the settings that decide a result, for fingerprints.

    A field that was added later is left out if it has the value that earlier runs behaved by (`metadata["before"]`), so
    that those runs can be resumed.
    """
    found = {}
    for each in fields(config):
        value = getattr(config, each.name)
        if "before" not in each.metadata or value != each.metadata["before"]:
            found[each.name] = list_deciding(value) if is_dataclass(value) else value
    return found
