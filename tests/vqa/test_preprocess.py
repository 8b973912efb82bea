import json

import numpy as np
import pytest
import torch
from transformers import BlipImageProcessor

from faceattr.errors import ModelError
from faceattr.vqa.blip.network.vision import fold_normalisation
from faceattr.vqa.blip.preprocess import BlipPreprocessing, normalise, resize_rgb
from faceattr.vqa.blip.processor import load_preprocessing
from faceattr.vqa.folding import PIXEL_CENTRE, PIXEL_SCALE

# Height, width: the data sets' own sizes, odd ones, one pixel, extreme shapes, enlarging, and the target itself.
SHAPES = [(218, 178), (200, 200), (448, 448), (1, 1), (1, 700), (601, 3), (37, 53), (383, 385), (384, 384), (96, 96)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size_px", [384, 96])
def test_resize_is_bit_equal_to_the_hugging_face_processor(shape, size_px):
    image = np.random.default_rng(sum(shape)).integers(0, 256, size=(*shape, 3), dtype=np.uint8)
    processor = BlipImageProcessor(
        size={"height": size_px, "width": size_px}, do_rescale=False, do_normalize=False, do_convert_rgb=False
    )
    expected = processor(images=[image], input_data_format="channels_last", return_tensors="np")["pixel_values"][0]
    resized = resize_rgb(image, size_px)
    assert expected.dtype == resized.dtype == np.uint8
    assert resized.flags.c_contiguous
    np.testing.assert_array_equal(resized, expected.transpose(1, 2, 0))


def test_resize_takes_read_only_and_strided_images_and_leaves_them_alone(recwarn):
    image = np.random.default_rng(0).integers(0, 256, size=(40, 30, 3), dtype=np.uint8)
    expected = resize_rgb(image.copy(), 16)
    mirrored = image[:, ::-1].copy()[:, ::-1]
    image.flags.writeable = False
    np.testing.assert_array_equal(resize_rgb(image, 16), expected)
    np.testing.assert_array_equal(resize_rgb(mirrored, 16), expected)
    assert not recwarn.list


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (1, 4, 4, 3)])
def test_resize_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"expected a uint8 image \[H, W, 3\], found uint8"):
        resize_rgb(np.zeros(shape, dtype=np.uint8), 8)


def test_normalise_by_hand():
    preprocessing = BlipPreprocessing(size_px=1, mean=(0.5, 0.0, 0.2), std=(0.5, 1.0, 0.1))
    normalised = normalise(np.array([[[255, 51, 51]]], dtype=np.uint8), preprocessing)
    np.testing.assert_allclose(normalised, [[[1.0, 0.2, 0.0]]], atol=1e-6)


def test_folded_projection_equals_processor_then_convolution():
    processor = BlipImageProcessor(size={"height": 24, "width": 24})
    image = np.random.default_rng(1).integers(0, 256, size=(24, 24, 3), dtype=np.uint8)
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 10, kernel_size=8, stride=8)
    pixels = processor(images=[image], input_data_format="channels_last", return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = convolution(pixels).flatten(2).transpose(1, 2)[0]
        weight, bias = fold_normalisation(
            convolution.weight, convolution.bias, mean=processor.image_mean, std=processor.image_std
        )
    # Patch 5 of 9 by hand: row 1, column 2.
    patch = torch.from_numpy(image[8:16, 16:24].copy()).float().flatten()
    torch.testing.assert_close(weight @ ((patch - PIXEL_CENTRE) / PIXEL_SCALE) + bias, expected[5], atol=1e-5, rtol=0)


def test_pixels_are_exact_in_half_precision():
    pixels = torch.arange(256)
    exact = (pixels.double() - PIXEL_CENTRE) / PIXEL_SCALE
    torch.testing.assert_close(((pixels.half() - PIXEL_CENTRE) / PIXEL_SCALE).double(), exact, atol=0, rtol=0)


def test_settings_are_read(tmp_path):
    BlipImageProcessor(
        size={"height": 96, "width": 96}, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]
    ).save_pretrained(tmp_path)
    assert load_preprocessing(tmp_path) == BlipPreprocessing(size_px=96, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))


def test_published_settings_are_accepted(tmp_path):
    """Old checkpoints carry keys that change nothing."""
    settings = {
        "do_normalize": True,
        "do_pad": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_processor_type": "BlipImageProcessor",
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "processor_class": "BlipProcessor",
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": 384, "width": 384},
        "size_divisor": 32,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    assert load_preprocessing(tmp_path).size_px == 384


@pytest.mark.parametrize(
    "settings",
    [
        {"resample": 2},
        {"do_resize": False},
        {"do_normalize": False},
        {"rescale_factor": 1 / 127.5},
        {"do_center_crop": True, "crop_size": {"height": 200, "width": 200}},
    ],
)
def test_what_is_not_reproduced_is_refused(tmp_path, settings):
    BlipImageProcessor(**settings).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="more or other than a bicubic resize to 384 px"):
        load_preprocessing(tmp_path)


def test_a_size_that_is_no_square_is_refused(tmp_path):
    BlipImageProcessor(size={"height": 384, "width": 380}).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="fixed square"):
        load_preprocessing(tmp_path)


def test_missing_settings_are_refused(tmp_path):
    with pytest.raises(ModelError, match="settings cannot be read"):
        load_preprocessing(tmp_path)
