"""Each step of the augmentation against torchvision's."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from faceattr.models.augment.blur import gaussian_blur
from faceattr.models.augment.colors import change_colors
from faceattr.models.augment.crop import draw_boxes
from faceattr.models.augment.draws import RandomNumbers, image_seed, splitmix64


def _noise(*shape, low=0, high=256):
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def _furthest(one, other):
    return int((one.int() - other.int()).abs().max())


def test_splitmix64():
    """Published numbers of the algorithm for the state 1234567."""
    found = splitmix64(np.array([1234567], np.uint64)[:, None], np.arange(5)[None])
    assert found.tolist() == [
        [
            6457827717110365317,
            3203168211198807973,
            9817491932198370423,
            4593380528125082431,
            16408922859458223821,
        ]
    ]


def test_draws_are_uniform_and_apart():
    seeds = [image_seed(0, epoch=0, row=row) for row in range(4_000)]
    draws = RandomNumbers(seeds, "color")
    numbers = np.stack(
        [draws.uniform(2.0, 4.0), *draws.uniform_many(2, 2.0, 4.0).T, RandomNumbers(seeds, "blur").uniform(2, 4)]
    )
    assert (numbers >= 2).all()
    assert (numbers < 4).all()
    counts = np.stack([np.histogram(each, 10, (2, 4))[0] for each in numbers])
    assert (np.abs(counts - 400) < 4 * (4_000 * 0.1 * 0.9) ** 0.5).all()
    assert np.abs(np.corrcoef(numbers) - np.eye(4)).max() < 4 / 4_000**0.5
    assert 1_100 < RandomNumbers(seeds, "fog").happens(0.3).sum() < 1_316  # 1,200 and 4 standard deviations of 29


def test_too_many_draws_would_reach_into_the_next_operation():
    draws = RandomNumbers([1], "crop")
    draws.uniform_many(64)
    with pytest.raises(ValueError, match="at most 64 draws"):
        draws.uniform()


@pytest.mark.parametrize("size", [(90, 70), (64, 64), (30, 200)])
def test_boxes_are_distributed_as_torchvisions(size):
    num, scale, ratio = 2_000, (0.5, 1.0), (0.8, 1.25)
    torch.manual_seed(0)
    image = torch.empty(3, *size)
    theirs = v2.RandomResizedCrop(24, scale, ratio)
    expected = np.array([list(theirs.make_params([image]).values()) for _ in range(num)], float)
    sizes = np.tile(np.array(size), (num, 1))
    found = draw_boxes(sizes, RandomNumbers(range(num), "crop"), scale=scale, ratio=ratio)
    assert (found[:, :2] >= 0).all()
    assert (found[:, 2:] > 0).all()
    assert (found[:, :2] + found[:, 2:] <= sizes).all()
    error = expected.std(0) / num**0.5
    assert (np.abs(found.mean(0) - expected.mean(0)) <= 4 * 2**0.5 * error).all()
    np.testing.assert_allclose(found.std(0), expected.std(0), rtol=0.1)


def test_a_box_for_an_image_that_no_ratio_fits():
    """10 x 100 with ratios about 1: the middle 10 x 11, as torchvision."""
    numbers = RandomNumbers([0, 1], "crop")
    found = draw_boxes(np.array([[10, 100], [100, 10]]), numbers, scale=(0.9, 1.0), ratio=(0.9, 1.1))
    assert found.tolist() == [[0, 44, 10, 11], [44, 0, 11, 10]]


@pytest.mark.parametrize("turn", [0.03, -0.03, 0.1, -0.11, 0.004, 0.0])
def test_hue_of_every_colour(turn):
    images = torch.cat([_noise(1, 3, 64, 64), _noise(1, 1, 64, 64).expand(1, 3, 64, 64)])
    ones = torch.ones(2)
    found = change_colors(images, brightness=ones, contrast=ones, saturation=ones, hue=torch.full((2,), turn))
    assert _furthest(found, functional.adjust_hue(images, turn)) <= 2
    assert torch.equal(found[1], images[1])  # gray has no hue


@pytest.mark.parametrize("factors", [(1.3, 1, 1), (0.4, 1, 1), (1, 1.3, 1), (1, 0.6, 1), (1, 1, 1.5), (1, 1, 0.2)])
def test_brightness_contrast_and_saturation(factors):
    image = _noise(1, 3, 40, 40)
    brightness, contrast, saturation = (torch.tensor([float(each)]) for each in factors)
    found = change_colors(image, brightness=brightness, contrast=contrast, saturation=saturation, hue=torch.zeros(1))
    expected = functional.adjust_brightness(image, factors[0])
    expected = functional.adjust_contrast(expected, factors[1])
    # torchvision cuts the fractions of gray and result off.
    assert _furthest(found, functional.adjust_saturation(expected, factors[2])) <= 2


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_together_in_any_order(order):
    """Colours that stay between 0 and 255 on the way; torchvision's images of floats are not rounded."""
    image = _noise(1, 3, 40, 40, low=90, high=150)
    factors = (1.2, 0.8, 1.3)
    adjust = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)
    expected = image / 255
    for each in order:
        expected = adjust[each](expected, factors[each])
    expected = functional.adjust_hue(expected, 0.02) * 255
    brightness, contrast, saturation = (torch.tensor([each]) for each in factors)
    found = change_colors(
        image, brightness=brightness, contrast=contrast, saturation=saturation, hue=torch.tensor([0.02])
    )
    assert (found - expected).abs().max() <= 2


def test_each_image_has_its_own_colours():
    images = _noise(1, 3, 16, 16).repeat(2, 1, 1, 1)
    factor, one = torch.tensor([1.0, 1.2]), torch.ones(2)
    found = change_colors(images, brightness=factor, contrast=one, saturation=one, hue=torch.zeros(2))
    assert torch.equal(found[0], images[0])
    assert _furthest(found[1], functional.adjust_brightness(images[1], 1.2)) <= 1


@pytest.mark.parametrize(("height", "width", "kernel_px"), [(48, 48, 5), (20, 33, 3), (70, 224, 23)])
def test_blur(height, width, kernel_px):
    images = _noise(3, 3, height, width)
    sigmas = [0.1, 0.8, 4.0]
    found = gaussian_blur(images, kernel_px=kernel_px, sigma_px=torch.tensor(sigmas))
    for image, blurred, sigma in zip(images, found, sigmas, strict=True):
        assert _furthest(blurred, functional.gaussian_blur(image, [kernel_px] * 2, [sigma] * 2)) <= 1
