from dataclasses import replace

import pytest
import torch

from faceattr.config.overrides import override
from faceattr.config.search import FeaturesConfig
from faceattr.config.train import TrainConfig
from faceattr.models.freezing import freeze
from faceattr.search.backbone_cuts import BackboneCuts, BoundaryFacts, measure_cuts
from faceattr.search.cache_choice import CacheUse, choose_cache, plan_caches, possible_depths
from faceattr.search.space import parse_space
from faceattr.yaml_files import load_yaml
from tests.models.tiny import build_model

SETTLED = {"augment.strength": 0.0, "augment.aspect": 0.15, "optim.precision": "float32"}
BASE = override(TrainConfig(data=("packed",), output="out"), SETTLED)


def boundary(depth, num_values, prefix, suffix):
    return BoundaryFacts(depth=depth, shape=(num_values,), prefix_flops=prefix, suffix_flops=suffix)


# At 4: saves 40 / (40 + 3 * 60) = 18 %; at 8: 80 / (80 + 60) = 57 %; heads: nearly all.
FACTS = BackboneCuts(
    num_blocks=10,
    can_split=True,
    boundaries={4: boundary(4, 1000, 40, 60), 8: boundary(8, 1000, 80, 20), 10: boundary(10, 64, 100, 0)},
)


def plan(text, *, base=BASE, mode="auto", num_rows=1000, **settings):
    space = parse_space(load_yaml(text, ""), "")
    return plan_caches(space, base, FACTS, FeaturesConfig(**settings), mode=mode, num_rows=num_rows)


def test_heads_alone_are_always_cached():
    found = plan("freeze.depth: {choice: [all, 0]}", num_rows=10**12, max_gb=0.001)
    assert found.boundaries == (10,)


def test_one_cache_at_the_shallowest_depth_that_pays():
    found = plan("freeze.depth: {choice: [4, 8, all]}")
    assert found.boundaries == (8, 10)
    assert "save 18%" in found.notes[0]
    assert plan("freeze.depth: {choice: [4, 8, all]}", mode="on").boundaries == (4, 10)
    assert plan("freeze.depth: {choice: [4, 8, all]}", mode="off").boundaries == ()
    # 1,000 images of 4,000 bytes at each boundary are 4 MB.
    assert plan("freeze.depth: {choice: [8, all]}", max_gb=0.003).boundaries == (10,)
    assert plan("freeze.depth: {choice: [8, all]}", max_gb=0.003, dtype="float16").boundaries == (8, 10)


def test_images_that_change_are_not_cached_unless_views_are():
    augmented = override(BASE, {"augment.strength": 1.0})
    found = plan("freeze.depth: {choice: [8, all]}", base=augmented)
    assert found.boundaries == ()
    assert "--set augment.strength=0" in found.notes[0]
    found = plan("freeze.depth: {choice: [8, all]}", base=augmented, views=3)
    assert (found.boundaries, found.plain, found.num_views) == ((8, 10), False, 3)
    found = plan("freeze.depth: {choice: [8, all]}\naugment.strength: {choice: [0, 1]}", views=3)
    assert (found.boundaries, found.plain, found.num_views) == ((8, 10), True, 0)


@pytest.mark.parametrize("key", ["model.backbone: {choice: [a, b]}", "optim.precision: {choice: [float32, bfloat16]}"])
def test_what_decides_frozen_blocks_must_not_be_searched(key):
    found = plan(f"freeze.depth: {{choice: [8, all]}}\n{key}")
    assert found.boundaries == ()
    assert "is searched" in found.notes[0]


def test_possible_depths():
    def depths(text):
        return possible_depths(parse_space(load_yaml(text, ""), ""), override(BASE, {"freeze.depth": 7}))

    assert depths("seed: {randint: [1, 2]}") == [7]
    assert depths("freeze.depth: {randint: [2, 4]}") == [2, 3, 4]
    assert depths("freeze.depth: {choice: [all, 1]}") == ["all", 1]


def test_facts_of_a_network():
    model = build_model("vit", None)
    freeze(model, 1)
    found = measure_cuts(model, [0, 2, "all"])
    assert model.backbone.frozen_depth == 1
    assert found.num_blocks == 4
    assert list(found.boundaries) == [2, 4]
    whole = [each.prefix_flops + each.suffix_flops for each in found.boundaries.values()]
    assert whole[0] == whole[1] > 0
    assert found.boundaries[4].num_values == model.backbone.num_features
    assert found.boundaries[2].saved_share < found.boundaries[4].saved_share
    resnet = measure_cuts(build_model("resnet", None), ["all"])
    assert list(resnet.boundaries) == [resnet.num_blocks]


def test_what_a_trial_reads():
    model = build_model("vit", None)
    space = parse_space(load_yaml("freeze.depth: {choice: [0, 2, 3, all]}", ""), "")
    settings = FeaturesConfig()
    caches = plan_caches(space, BASE, measure_cuts(model, [0, 2, 3, "all"]), settings, mode="on", num_rows=10)
    assert caches.boundaries == (2, 4)

    def choose(values, plan=caches, fingerprint="data"):
        config = override(BASE, values)
        freeze(model, config.freeze.depth)
        return choose_cache(config, model, plan, settings, data_fingerprint=fingerprint)

    use = choose({"freeze.depth": 3})
    assert isinstance(use, CacheUse)
    assert (use.boundary, use.train, use.val.view) == (2, (use.val,), None)
    assert choose({"freeze.depth": "all"}).boundary == 4
    assert "before the cached boundary" in choose({"freeze.depth": 0})
    assert "mixup" in choose({"freeze.depth": 3, "optim.mixup_alpha": 0.2})
    assert "CutMix" in choose({"freeze.depth": 3, "optim.cutmix_alpha": 1.0})
    assert "consistency" in choose({"freeze.depth": 3, "loss.consistency": 0.2})
    assert "augmentation" in choose({"freeze.depth": 3, "augment.strength": 0.5})
    assert choose({"freeze.depth": 3}, fingerprint="other").val != use.val
    viewed = choose({"freeze.depth": 3, "augment.strength": 0.5}, replace(caches, num_views=2))
    assert [key.view.number for key in viewed.train] == [0, 1]
    assert viewed.val.view is None
    with torch.no_grad():
        next(model.backbone.parameters()).add_(1)
    assert choose({"freeze.depth": 3}).val != use.val
