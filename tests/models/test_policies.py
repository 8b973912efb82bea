"""RandAugment, TrivialAugment and random erasing against torchvision's transforms of these names."""

from collections import Counter

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode, v2

from faceattr.config.augmentation import Augmentation
from faceattr.config.fit import compute_fingerprint
from faceattr.errors import ConfigError
from faceattr.models.augment.draws import RandomNumbers, image_seed
from faceattr.models.augment.looks import RandomLooks
from faceattr.models.augment.policy import apply_operation, draw_operations
from faceattr.models.augment.train import TrainTransform
from faceattr.models.backbones.preprocessing import Preprocessing

FILL = [120, 110, 100]
THEIRS = {
    "rand": v2.RandAugment(interpolation=InterpolationMode.BILINEAR, fill=FILL),
    "trivial": v2.TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR, fill=FILL),
}
OURS = {
    **{"Identity": "identity", "ShearX": "shear_x", "ShearY": "shear_y", "TranslateX": "translate_x"},
    **{"TranslateY": "translate_y", "Rotate": "rotate", "Brightness": "brightness", "Color": "color"},
    **{"Contrast": "contrast", "Sharpness": "sharpness", "Posterize": "posterize", "Solarize": "solarize"},
    **{"AutoContrast": "autocontrast", "Equalize": "equalize"},
}
SEEDS = [image_seed(0, epoch=0, row=row) for row in range(2_800)]


def _image(size=48):
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 255
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")[0].to(torch.uint8)


@pytest.mark.parametrize("policy", ["rand", "trivial"])
@pytest.mark.parametrize("theirs", list(OURS))
def test_every_operation_at_every_magnitude_is_torchvisions(policy, theirs):
    reference, image = THEIRS[policy], _image()
    magnitudes, signed = reference._AUGMENTATION_SPACE[theirs]
    values = magnitudes(31, 48, 48)
    # Not the steps where a shift or threshold is a whole number, which torchvision's float32 may fall short of.
    for step in (1, 7, 11, 19, 29):
        for sign in (1, -1) if signed else (1,):
            wanted = reference._apply_image_or_video_transform(
                image,
                theirs,
                0.0 if values is None else sign * float(values[step]),
                interpolation=reference.interpolation,
                fill=reference._fill,
            )
            found = apply_operation(image, OURS[theirs], sign * step / 30, policy, fill=FILL)
            assert found.dtype == torch.uint8
            assert (found.int() - wanted.int()).abs().max() <= 1


def test_operations_are_drawn_evenly_and_from_the_seed():
    settings = Augmentation(policy="trivial")
    drawn = [each[0] for each in draw_operations(RandomNumbers(SEEDS, "policy"), settings)]
    counts = Counter(name for name, _ in drawn)
    # 2,800 draws of 14 operations: 200 each, and 4 standard deviations of 14.
    assert set(counts) == set(OURS.values())
    assert all(abs(count - 200) < 56 for count in counts.values())
    turns = np.array([magnitude for name, magnitude in drawn if name in ("rotate", "shear_x", "color")])
    assert 0.4 < (turns < 0).mean() < 0.6
    np.testing.assert_allclose(np.abs(turns).mean(), 0.5, atol=0.05)
    assert set(np.round(np.abs(turns) * 30, 6)) == set(range(31))
    alone = draw_operations(RandomNumbers(SEEDS[7:8], "policy"), settings)
    assert alone == draw_operations(RandomNumbers(SEEDS, "policy"), settings)[7:8]


def test_randaugment_has_one_magnitude_and_several_operations():
    settings = Augmentation(policy="rand", policy_ops=3, policy_magnitude=12)
    drawn = draw_operations(RandomNumbers(SEEDS[:50], "policy"), settings)
    assert {len(each) for each in drawn} == {3}
    assert {round(abs(magnitude), 6) for each in drawn for _, magnitude in each} == {0.4}
    gentle = draw_operations(RandomNumbers(SEEDS[:50], "policy"), Augmentation(strength=0.5, policy="rand"))
    assert {round(abs(magnitude), 6) for each in gentle for _, magnitude in each} == {0.15}


@pytest.mark.parametrize("settings", [{"policy": "rand"}, {"policy": "trivial"}, {"erasing": 0.5}])
def test_views_follow_from_image_settings_and_seed_alone(settings):
    plain = Preprocessing(size_px=40, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2))
    images, seeds = [_image(size) for size in (48, 60, 40)] * 4, SEEDS[:12]
    transform = TrainTransform(plain, Augmentation(**settings))
    state = torch.random.get_rng_state()
    views = transform(images, seeds=seeds)
    assert torch.equal(torch.random.get_rng_state(), state)
    for place in reversed(range(12)):
        assert torch.equal(transform([images[place]], seeds=[seeds[place]])[0], views[place])
    # The draws of crop, flip, colours and blur stay the same, so that only what is new changes.
    without = TrainTransform(plain, Augmentation())(images, seeds=seeds)
    changed = (views != without).flatten(1).any(1)
    assert changed.any()


def test_erased_rectangles_are_distributed_as_torchvisions():
    """Their area, height and place; erased pixels have the fill colour, others do not change."""
    size, num = 32, 2_000
    image = torch.zeros(3, size, size, dtype=torch.uint8)
    looks = RandomLooks(size, Augmentation(color=0, blur=0, erasing=1.0), FILL)
    found = looks(image.expand(num, -1, -1, -1), SEEDS[:num])
    erased = found[:, 0] == FILL[0]
    assert torch.equal(found, erased[:, None] * torch.tensor(FILL, dtype=torch.uint8)[:, None, None])
    torch.manual_seed(0)
    params = [v2.RandomErasing(p=1.0).make_params([image]) for _ in range(num)]
    wanted = torch.tensor([[each["h"] * each["w"], each["h"], each["i"], each["j"]] for each in params]).double()
    rows, columns = erased.any(2), erased.any(1)
    measured = torch.stack(
        [erased.flatten(1).sum(1), rows.sum(1), rows.int().argmax(1), columns.int().argmax(1)], 1
    ).double()
    error = wanted.std(0) / num**0.5
    assert ((measured.mean(0) - wanted.mean(0)).abs() < 4 * 2**0.5 * error).all()
    torch.testing.assert_close(measured.std(0), wanted.std(0), rtol=0.1, atol=0)


def test_erasing_happens_with_its_probability_times_strength():
    image = torch.zeros(3, 16, 16, dtype=torch.uint8)
    looks = RandomLooks(16, Augmentation(strength=0.5, color=0, blur=0, erasing=0.6), FILL)
    changed = looks(image.expand(300, -1, -1, -1), SEEDS[:300]).flatten(1).any(1)
    assert 58 < changed.sum() < 122  # 90 and 4 standard deviations of 8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"policy": "auto"}, "--augment.policy: expected one of none, rand, trivial, found 'auto'"),
        ({"policy_ops": 0}, "--augment.policy-ops: expected 1 to 10, found 0"),
        ({"policy_magnitude": 31.0}, "--augment.policy-magnitude: expected 0 to 30, found 31.0"),
        ({"erasing": 1.5}, "--augment.erasing: expected 0 to 1, found 1.5"),
    ],
)
def test_settings_out_of_range(values, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        Augmentation(**values)


def test_what_is_off_leaves_fingerprints_alone():
    names = ("policy", "policy_ops", "policy_magnitude", "erasing")
    assert len({compute_fingerprint(Augmentation(**{name: getattr(Augmentation(), name)})) for name in names}) == 1
    assert compute_fingerprint(Augmentation(erasing=0.1)) != compute_fingerprint(Augmentation())
