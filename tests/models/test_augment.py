import pytest
import torch
from torchvision.transforms import v2

from faceattr.config.augmentation import Augmentation
from faceattr.errors import ConfigError
from faceattr.models.augment.draws import image_seed
from faceattr.models.augment.looks import RandomLooks
from faceattr.models.augment.train import TrainTransform
from faceattr.models.augment.weather import add_fog, add_rain
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.transforms import EvalTransform

PLAIN = Preprocessing(size_px=48, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), crop_fraction=0.75)
WHOLE = Preprocessing(size_px=48, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
EVERYTHING = Augmentation(blur=0.5, rain=0.5, fog=0.5)


def _photo(height=90, width=70, seed=0):
    """Smooth, colourful and not symmetric: uint8 [3, H, W]."""
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) * 255
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")[0].to(torch.uint8)


def test_views_follow_from_image_settings_and_seed_alone():
    images = [_photo(), _photo(60, 60, seed=1), _photo(50, 110, seed=2)] * 4
    seeds = list(range(12))
    untouched = [image.clone() for image in images]
    state = torch.random.get_rng_state()
    views = TrainTransform(PLAIN, EVERYTHING)(images, seeds=seeds)
    assert (views.dtype, views.shape) == (torch.uint8, (12, 3, 48, 48))
    assert len({view.numpy().tobytes() for view in views}) == 12
    for place in reversed(range(12)):  # one by one, and in another order
        alone = TrainTransform(PLAIN, EVERYTHING)([images[place]], seeds=[seeds[place]])
        assert torch.equal(alone[0], views[place])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one, other) for one, other in zip(images, untouched, strict=True))


def test_two_halves_give_the_same_views():
    """The worker's GPU makes the second half from crops that came from a CPU."""
    transform = TrainTransform(PLAIN, EVERYTHING)
    images, seeds = [_photo(seed=seed) for seed in range(6)], list(range(6))
    crops = transform.crop(images, seeds=seeds)
    assert not torch.equal(crops, transform(images, seeds=seeds))
    assert torch.equal(transform.finish(crops, seeds=seeds), transform(images, seeds=seeds))


def test_the_layout_of_the_pixels_in_memory_does_not_matter():
    image = _photo()
    as_decoded = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    transform = TrainTransform(PLAIN, EVERYTHING)
    assert torch.equal(transform([image], seeds=[5]), transform([as_decoded], seeds=[5]))


def test_strength():
    image = _photo(70, 70)
    off = TrainTransform(PLAIN, Augmentation(strength=0, rain=1, fog=1))
    plain = EvalTransform(PLAIN)(image)
    assert torch.equal(off([image] * 3, seeds=[0, 1, 2]), plain.expand(3, -1, -1, -1))

    def distance(strength):
        # Without the crop, pixels stay in place and can be compared.
        augmentation = Augmentation(strength=strength, flip=0, crop=0, aspect=0, blur=0, fog=1)
        views = TrainTransform(WHOLE, augmentation)([image] * 12, seeds=range(12))
        return float((views.float() - EvalTransform(WHOLE)(image).float()).abs().mean())

    assert distance(0.2) < distance(1.0) < distance(2.0)


def test_flip_alone():
    square = _photo(48, 48)
    settings = {"crop": 0, "aspect": 0, "color": 0, "blur": 0}
    views = TrainTransform(WHOLE, Augmentation(flip=1, **settings))([square] * 3, seeds=[0, 1, 2])
    assert torch.equal(views, square.flip(-1).expand(3, -1, -1, -1))
    views = TrainTransform(WHOLE, Augmentation(**settings))([square] * 400, seeds=range(400))
    flipped = (views == square.flip(-1)).flatten(1).all(1)
    assert torch.equal(flipped, ~(views == square).flatten(1).all(1))
    assert 160 < flipped.sum() < 240  # 4 standard deviations of 400 halves


def test_views_are_distributed_as_torchvisions():
    """Means and deviations, over many views, of each channel's mean and contrast and of the colourfulness."""
    image = _photo(64, 64, seed=3)
    num, color = 1_500, 0.3
    theirs = v2.Compose(
        [
            v2.RandomResizedCrop(24, (0.7, 1.0), (0.85, 1.18), antialias=True),
            v2.RandomHorizontalFlip(0.5),
            v2.ColorJitter(brightness=color, contrast=color, saturation=color, hue=color / 10),
        ]
    )
    torch.manual_seed(0)
    expected = _describe(torch.stack([theirs(image) for _ in range(num)]))
    small = Preprocessing(size_px=24, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bilinear")
    found = _describe(TrainTransform(small, Augmentation(blur=0))([image] * num, seeds=range(num)))
    error = expected.std(0) / num**0.5
    # torchvision cuts fractions off after each of the four operations: half a number of 255 each.
    assert ((found.mean(0) - expected.mean(0)).abs() < 4 * error * 2**0.5 + 2.0).all()
    torch.testing.assert_close(found.std(0), expected.std(0), rtol=0.1, atol=0)


def _describe(views):
    floats = views.float()
    spread = floats.amax(1) - floats.amin(1)
    return torch.cat([floats.mean((2, 3)), floats.std((2, 3)), spread.mean((1, 2))[:, None]], 1)


def test_only_images_pass():
    for images in ([torch.zeros(3, 8, 8)], [torch.zeros(8, 8, 3, dtype=torch.uint8)]):
        with pytest.raises(ValueError, match=r"expected uint8 images \[..., 3, H, W\], found torch"):
            TrainTransform(PLAIN)(images, seeds=[0])
    with pytest.raises(ValueError, match="one seed each"):
        TrainTransform(PLAIN)([torch.zeros(2, 3, 8, 8, dtype=torch.uint8)], seeds=[0])


def test_settings_out_of_range():
    for name in ("strength", "flip", "crop", "color", "blur", "rain", "fog"):
        with pytest.raises(ConfigError, match=f"--augment.{name}: expected 0 to"):
            Augmentation(**{name: 2.5})


def test_image_seeds():
    seeds = {image_seed(seed, epoch=epoch, row=row) for seed in range(3) for epoch in range(3) for row in range(50)}
    assert len(seeds) == 450
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert image_seed(1, epoch=2, row=3) == image_seed(1, epoch=2, row=3)


@pytest.mark.parametrize("kind", ["blur", "rain", "fog"])
def test_blur_and_weather_happen_with_their_probability(kind):
    settings = {"color": 0, "blur": 0} | {kind: 0.3}
    seeds = [image_seed(0, epoch=0, row=row) for row in range(300)]
    noise = torch.randint(0, 256, (3, 100, 100), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = noise.expand(300, -1, -1, -1)
    looks = RandomLooks(100, Augmentation(**settings))(images, seeds)
    changed = (looks != images).flatten(1).any(1)
    assert 58 < changed.sum() < 122  # 90 and 4 standard deviations of 8; the narrowest blurs change nothing


def test_rain_is_bright_streaks_along_the_angle():
    dark = torch.zeros(3, 80, 80, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    rain = add_rain(dark, density=0.003, length_px=15, angle_deg=0.0, opacity=0.8, generator=generator)
    wet = rain[0] > 0
    assert 0 < wet.float().mean() < 0.2
    assert rain.max() == round(225 * 0.8)
    vertical = (wet[1:] & wet[:-1]).sum()
    horizontal = (wet[:, 1:] & wet[:, :-1]).sum()
    assert vertical > 5 * horizontal
    assert torch.equal(rain[0], rain[2])


def test_fog_is_smooth_and_takes_contrast():
    generator = torch.Generator().manual_seed(0)
    stripes = torch.zeros(3, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 255
    fog = add_fog(stripes, thickness=0.5, generator=generator).float()
    assert fog.std() < 0.7 * stripes.float().std()
    veil = add_fog(torch.zeros_like(stripes), thickness=0.5, generator=generator)[0].float()
    assert 0.35 * 225 < veil.mean() < 0.65 * 225
    assert (veil[1:] - veil[:-1]).abs().max() < 20
    assert torch.equal(add_fog(stripes, thickness=0.0, generator=generator), stripes)
