"""Chooses the activations that a search computes once for all its trials, and the ones that a trial can use.

    heads alone     always: a few KiB per image, and the whole backbone is saved
    otherwise       one cache, at the shallowest of the space's freeze depths where at least a quarter of a training
                    step is saved and the cache is not larger than allowed; deeper trials read it too
    never           where images change before the boundary: augmentation (unless a number of random views is cached)
                    mixup and CutMix; where the loss compares two views of an image; or where the space searches what
                    the frozen blocks compute

The keys of a cache are computed again in every trial, so a trial whose frozen blocks differ does not find it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch

from faceattr.config.augmentation import AugmentSettings
from faceattr.config.search import FeaturesConfig
from faceattr.config.train import TrainConfig
from faceattr.models.freezing import FrozenPrefix, resolve_depth
from faceattr.models.multitask import MultiAttributeModel
from faceattr.search.backbone_cuts import BackboneCuts, BoundaryFacts
from faceattr.search.space import Space
from faceattr.training.features.key import FeatureKey, View

_LEAST_SAVED = 0.25
# Settings that change the numbers at every boundary; a cache would serve only a fraction of the trials.
_COMPUTED_BY = ("model.backbone", "model.pretrained", "model.image_size", "model.args", "model.checkpoint")
_VIEW_KEYS = (
    "seed",
    *(f"augment.{each.name}" for each in fields(AugmentSettings)),
)


@dataclass(frozen=True, kw_only=True)
class CachePlan:
    """The caches of a search.

    Attributes:
        boundaries: depths, ascending; empty without a cache.
        plain: whether training images are cached as they are.
        num_views: number of random views that are cached in addition.
        notes: what was decided and why, one line each.
    """

    boundaries: tuple[int, ...] = ()
    plain: bool = True
    num_views: int = 0
    notes: tuple[str, ...] = ()


def possible_depths(space: Space, base: TrainConfig) -> list[int | str]:
    """Returns the freeze depths that trials may have."""
    found = space.possible("freeze.depth")
    if found is None:
        return [base.freeze.depth]
    if "randint" in space.searched["freeze.depth"].distribution.to_json():
        return list(range(int(found[0]), int(found[1]) + 1))
    return list(found)


def plan_caches(
    space: Space,
    base: TrainConfig,
    facts: BackboneCuts,
    settings: FeaturesConfig,
    *,
    mode: Literal["auto", "on", "off"],
    num_rows: int,
) -> CachePlan:
    """Chooses the caches by the rule above.

    Args:
        space: space of the search.
        base: settings that the trials share.
        facts: facts about the base's network, at the space's freeze depths.
        settings: settings of the cache.
        mode: value of `--cache`.
        num_rows: number of training and validation images.
    """
    if mode == "off":
        return CachePlan(notes=("no cache: --cache off",))
    searched = [key for key in (*_COMPUTED_BY, "optim.precision") if key in space.searched]
    if not base.model.pretrained and base.model.checkpoint is None and "seed" in space.searched:
        searched.append("seed")
    if searched:
        return CachePlan(notes=(f"no cache: {searched[0]} is searched, which decides what frozen blocks compute",))
    strengths = space.possible("augment.strength") or (base.augment.strength,)
    plain = 0 in strengths
    views_differ = [key for key in _VIEW_KEYS if key in space.searched]
    num_views = settings.views if any(strengths) and not views_differ else 0
    if not plain and not num_views:
        why = f"{views_differ[0]} is searched" if settings.views else "--features.views is 0"
        return CachePlan(
            notes=(
                f"no cache: augment.strength is {strengths[0]}, so images change, and {why}; --set augment.strength=0",
            )
        )
    notes: list[str] = []
    boundaries: list[int] = []
    size = 4 if settings.dtype == "float32" else 2
    copies = num_rows * (int(plain) + num_views)
    found = dict(facts.boundaries)
    heads = found.pop(facts.num_blocks, None)
    for boundary in sorted(found.values(), key=lambda each: each.depth):
        refusal = _refusal(boundary, settings, num_bytes=copies * boundary.num_values * size, forced=mode == "on")
        if refusal is None:
            boundaries.append(boundary.depth)
            notes.append(
                f"cache before block {boundary.depth}: {boundary.num_values * size / 1024:,.0f} KiB an image, saves "
                f"{boundary.saved_share:.0%} of a step"
            )
            break
        notes.append(f"no cache before block {boundary.depth}: {refusal}")
    if heads is not None:
        boundaries.append(heads.depth)
        notes.append(f"cache of pooled features: {heads.num_values * size / 1024:,.1f} KiB an image")
    if not boundaries and not notes:
        notes.append("no cache: no block is frozen, or the backbone cannot be cut there")
    return CachePlan(boundaries=tuple(boundaries), plain=plain, num_views=num_views, notes=tuple(notes))


def _refusal(boundary: BoundaryFacts, settings: FeaturesConfig, *, num_bytes: float, forced: bool) -> str | None:
    if num_bytes > settings.max_gb * 1e9:
        return f"{num_bytes / 1e9:,.0f} GB are more than --features.max-gb"
    if boundary.saved_share < _LEAST_SAVED and not forced:
        return f"it would save {boundary.saved_share:.0%} of a step"
    return None


def all_cached(space: Space, base: TrainConfig, facts: BackboneCuts, plan: CachePlan) -> bool:
    """Returns whether no trial of the space reads images."""
    depths = {facts.num_blocks if depth in ("all", -1) else int(depth) for depth in possible_depths(space, base)}
    strengths = space.possible("augment.strength") or (base.augment.strength,)
    mixes = [
        alpha
        for key, own in (("optim.mixup_alpha", base.optim.mixup_alpha), ("optim.cutmix_alpha", base.optim.cutmix_alpha))
        for alpha in space.possible(key) or (own,)
    ]
    consistencies = space.possible("loss.consistency") or (base.loss.consistency,)
    return (
        bool(plan.boundaries)
        and min(depths) >= plan.boundaries[0]
        and all(plan.num_views if strength else plan.plain for strength in strengths)
        and not any(mixes)
        and not any(consistencies)
    )


@dataclass(frozen=True, kw_only=True)
class CacheUse:
    """The caches that a trial reads.

    Attributes:
        boundary: depth where its network begins.
        train: keys of its training images' caches, one per view.
        val: key of its validation images' cache.
    """

    boundary: int
    train: tuple[FeatureKey, ...]
    val: FeatureKey


def choose_cache(
    config: TrainConfig,
    model: MultiAttributeModel,
    plan: CachePlan,
    settings: FeaturesConfig,
    *,
    data_fingerprint: str,
) -> CacheUse | str:
    """Returns the caches that a trial can read, or the reason why it reads images.

    Args:
        config: config of the trial.
        model: the model built from it, before its first step.
        plan: caches of the search.
        settings: settings of the cache.
        data_fingerprint: fingerprint of the data in the order of its rows.
    """
    if not plan.boundaries:
        return plan.notes[0] if plan.notes else "no cache"
    if config.optim.mixes_images:
        return "mixup changes images" if config.optim.mixup_alpha else "CutMix changes images"
    if config.loss.consistency:
        return "the consistency loss needs other views of the images"
    if config.augment.strength and not plan.num_views:
        return "augmentation changes images"
    if not config.augment.strength and not plan.plain:
        return "only augmented images are cached"
    depth = resolve_depth(model.backbone, config.freeze.depth)
    usable = [boundary for boundary in plan.boundaries if boundary <= depth]
    if not usable:
        return f"freeze depth {depth} is before the cached boundary {plan.boundaries[0]}"
    views = range(plan.num_views) if config.augment.strength else [None]
    keys = boundary_keys(config, model, max(usable), settings, data_fingerprint=data_fingerprint, views=[*views, None])
    return CacheUse(boundary=max(usable), train=tuple(keys[:-1]), val=keys[-1])


def boundary_keys(
    config: TrainConfig,
    model: MultiAttributeModel,
    boundary: int,
    settings: FeaturesConfig,
    *,
    data_fingerprint: str,
    views: Sequence[int | None],
) -> list[FeatureKey]:
    """Computes the keys of a boundary's caches, one per view; view None means images as they are."""
    with torch.no_grad():
        weights_id = FrozenPrefix(model.backbone, boundary).compute_weights_id()
    return [
        FeatureKey(
            weights_id=weights_id,
            boundary=boundary,
            preprocessing=model.backbone.preprocessing,
            precision=config.optim.precision,
            dtype=settings.dtype,
            data_fingerprint=data_fingerprint,
            view=None if view is None else View(number=view, seed=config.seed, augment=config.augmentation),
        )
        for view in views
    ]
