import numpy as np
import pytest
import torch
from PIL import Image

from faceattr.config.augmentation import Augmentation
from faceattr.errors import ConfigError
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.transforms import (
    EvalTransform,
    Normalise,
    RandomFog,
    RandomRain,
    TrainTransform,
    add_fog,
    add_rain,
    image_seed,
)

PLAIN = Preprocessing(size_px=48, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), crop_fraction=0.75)


def _photo(height=90, width=70, seed=0):
    """Smooth, colourful and not symmetric: uint8 [3, H, W]."""
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) * 255
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")[0].to(torch.uint8)


def test_eval_keeps_the_centre():
    image = _photo()
    out = EvalTransform(PLAIN)(image)
    assert (out.dtype, out.shape) == (torch.uint8, (3, 48, 48))
    resized = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((64, 82), Image.Resampling.BICUBIC)
    theirs = np.asarray(resized)[17:65, 8:56]
    assert np.abs(out.permute(1, 2, 0).numpy().astype(int) - theirs).max() <= 2
    torch.testing.assert_close(EvalTransform(PLAIN)(image[None].expand(2, -1, -1, -1)), out.expand(2, -1, -1, -1))


def test_eval_squash_shows_all_of_it():
    image = torch.zeros(3, 20, 100, dtype=torch.uint8)
    image[:, :, 90:] = 255
    squash = Preprocessing(size_px=10, mean=(0, 0, 0), std=(1, 1, 1), crop_mode="squash", interpolation="bilinear")
    assert EvalTransform(squash)(image)[0, 5].tolist()[:9] == [0] * 8 + [pytest.approx(0, abs=40)]
    assert EvalTransform(squash)(image)[0, 5, 9] > 200


def test_normalise():
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    out = Normalise(PLAIN)(images)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.flatten(), torch.tensor([-0.4 / 0.2, 0.5 / 0.25, -0.4 / 0.3]))
    assert not Normalise(PLAIN).state_dict()


@pytest.mark.parametrize("image", [torch.zeros(3, 8, 8), torch.zeros(8, 8, 3, dtype=torch.uint8)])
def test_only_pixels_pass(image):
    for transform in (EvalTransform(PLAIN), Normalise(PLAIN), lambda x: TrainTransform(PLAIN)(x, seed=0)):
        with pytest.raises(ValueError, match=r"expected uint8 images \[..., 3, H, W\], found torch"):
            transform(image)
    with pytest.raises(ValueError, match="each has its own seed"):
        TrainTransform(PLAIN)(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), seed=0)


def test_training_views_follow_from_their_seed_alone():
    everything = Augmentation(blur=0.5, rain=0.5, fog=0.5)
    transform = TrainTransform(PLAIN, everything)
    image = _photo()
    untouched = image.clone()
    views = {seed: transform(image, seed=seed) for seed in range(8)}
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    for seed in reversed(range(8)):
        torch.rand(seed)
        before = torch.random.get_rng_state()
        assert torch.equal(TrainTransform(PLAIN, everything)(image, seed=seed), views[seed])
        assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(image, untouched)
    for view in views.values():
        assert (view.dtype, view.shape) == (torch.uint8, (3, 48, 48))
    assert len({view.numpy().tobytes() for view in views.values()}) == 8


def test_strength():
    image = _photo()
    plain = EvalTransform(PLAIN)(image)
    off = TrainTransform(PLAIN, Augmentation(strength=0, rain=1, fog=1))
    assert all(torch.equal(off(image, seed=seed), plain) for seed in range(4))

    def distance(strength):
        # Without the crop, pixels stay in place and can be compared.
        augmentation = Augmentation(strength=strength, flip=0, crop=0, blur=0, fog=1)
        square = image[:, :70]
        wanted = EvalTransform(Preprocessing(size_px=48, mean=PLAIN.mean, std=PLAIN.std))(square).float()
        transform = TrainTransform(PLAIN, augmentation)
        return sum(float((transform(square, seed=seed).float() - wanted).abs().mean()) for seed in range(6))

    assert distance(0.2) < distance(1.0) < distance(2.0)


def test_flip_alone():
    augmentation = Augmentation(flip=1, crop=0, color=0, blur=0, strength=1e-9)
    square = _photo(48, 48)
    plain = Preprocessing(size_px=48, mean=PLAIN.mean, std=PLAIN.std)
    # The crop's aspect ratio still varies a little; half of the draws take the whole square.
    views = [TrainTransform(plain, augmentation)(square, seed=seed) for seed in range(20)]
    assert any(torch.equal(view, square.flip(-1)) for view in views)
    assert not any(torch.equal(view, square) for view in views)


def test_settings_out_of_range():
    for name in ("strength", "flip", "crop", "color", "blur", "rain", "fog"):
        with pytest.raises(ConfigError, match=f"--augment.{name}: expected 0 to"):
            Augmentation(**{name: 2.5})


def test_image_seeds():
    seeds = {image_seed(seed, epoch=epoch, row=row) for seed in range(3) for epoch in range(3) for row in range(50)}
    assert len(seeds) == 450
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert image_seed(1, epoch=2, row=3) == image_seed(1, epoch=2, row=3)


def test_rain_is_bright_streaks_along_the_angle():
    torch.manual_seed(0)
    dark = torch.zeros(3, 80, 80, dtype=torch.uint8)
    rain = add_rain(dark, density=0.003, length_px=15, angle_deg=0.0, opacity=0.8)
    wet = rain[0] > 0
    assert 0 < wet.float().mean() < 0.2
    assert rain.max() == round(225 * 0.8)
    vertical = (wet[1:] & wet[:-1]).sum()
    horizontal = (wet[:, 1:] & wet[:, :-1]).sum()
    assert vertical > 5 * horizontal
    assert torch.equal(rain[0], rain[2])


def test_fog_is_smooth_and_takes_contrast():
    torch.manual_seed(0)
    stripes = torch.zeros(3, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 255
    fog = add_fog(stripes, thickness=0.5).float()
    assert fog.std() < 0.7 * stripes.float().std()
    veil = add_fog(torch.zeros_like(stripes), thickness=0.5)[0].float()
    assert 0.35 * 225 < veil.mean() < 0.65 * 225
    assert (veil[1:] - veil[:-1]).abs().max() < 20
    assert torch.equal(add_fog(stripes, thickness=0.0), stripes)


def test_weather_happens_with_its_probability():
    image = _photo()
    torch.manual_seed(0)
    for kind in (RandomRain, RandomFog):
        assert kind(0.0)(image) is image
        changed = sum(not torch.equal(kind(0.5)(image), image) for _ in range(60))
        assert 15 < changed < 45
        out = kind(1.0, strength=2.0)(image)
        assert (out.dtype, out.shape) == (image.dtype, image.shape)


def test_a_strip_is_resized_in_bounded_memory_and_shows_its_middle():
    """1 x 4,000 px with a shorter side of 224 would be 224 x 896,000."""
    tall = torch.zeros(3, 4_000, 1, dtype=torch.uint8)
    tall[:, 1_996:2_004] = 200
    transform = EvalTransform(Preprocessing(size_px=224, mean=(0.5,) * 3, std=(0.5,) * 3))
    sizes = []
    transform.resize.register_forward_hook(lambda module, inputs, resized: sizes.append(resized.shape))
    assert (transform(tall) == 200).all()
    assert torch.equal(transform(tall.transpose(1, 2)), transform(tall).transpose(1, 2))
    assert set(sizes) == {(3, 3_584, 224), (3, 224, 3_584)}  # 16 to 1


def test_pictures_up_to_sixteen_to_one_are_resized_whole():
    image = torch.randint(0, 256, (3, 20, 320), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    transform = EvalTransform(Preprocessing(size_px=32, mean=(0.5,) * 3, std=(0.5,) * 3))
    assert torch.equal(transform(image), transform.crop(transform.resize(image)))
