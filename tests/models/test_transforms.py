import numpy as np
import pytest
import torch
from PIL import Image

from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.transforms import EvalTransform, Normalise

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
    for transform in (EvalTransform(PLAIN), Normalise(PLAIN)):
        with pytest.raises(ValueError, match=r"expected uint8 images \[..., 3, H, W\], found torch"):
            transform(image)


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
