import json

import numpy as np
import pytest
from transformers import CLIPImageProcessor, SiglipImageProcessor

from faceattr.errors import ModelError
from faceattr.vqa.contrastive.preprocess import frame_rgb
from faceattr.vqa.contrastive.processor import Framing, read_image_processor

# Height, width: the data sets' own sizes, odd ones, one pixel, long ones, enlarging, and the target itself.
SHAPES = [(218, 178), (200, 200), (448, 301), (1, 1), (3, 90), (601, 30), (37, 53), (223, 225), (224, 224)]
SETTINGS = {
    "clip": (CLIPImageProcessor, {}),
    "clip 96": (CLIPImageProcessor, {"size": {"shortest_edge": 96}, "crop_size": {"height": 96, "width": 96}}),
    # DFN and others crop a margin; older files give numbers.
    "margin": (CLIPImageProcessor, {"size": 101, "crop_size": 90, "resample": 2}),
    "siglip": (SiglipImageProcessor, {}),
    "siglip 2": (SiglipImageProcessor, {"size": {"height": 256, "width": 256}, "resample": 2}),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_frames_are_bit_equal_to_the_image_processors(tmp_path, name):
    processor_class, settings = SETTINGS[name]
    processor_class(**settings).save_pretrained(tmp_path)
    framing = read_image_processor(tmp_path).framing
    processor = processor_class(**settings, do_rescale=False, do_normalize=False)
    for shape in SHAPES:
        image = np.random.default_rng(sum(shape)).integers(0, 256, size=(*shape, 3), dtype=np.uint8)
        expected = processor(images=[image], input_data_format="channels_last", return_tensors="np")["pixel_values"][0]
        image.flags.writeable = False
        framed = frame_rgb(image, framing)
        assert expected.dtype == framed.dtype == np.uint8
        assert framed.flags.c_contiguous
        np.testing.assert_array_equal(framed, expected.transpose(1, 2, 0))


def test_a_strip_takes_little_memory_and_shows_its_centre():
    strip = np.zeros((2, 30_000, 3), np.uint8)
    strip[:, 14_999:15_001] = 255
    framed = frame_rgb(strip, Framing(size_px=64, shortest_px=64, interpolation="bicubic"))
    assert framed.shape == (64, 64, 3)
    assert framed.mean() > 200


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (1, 4, 4, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected a uint8 image \[H, W, 3\], found uint8"):
        frame_rgb(np.zeros(shape, dtype=np.uint8), Framing(size_px=8, shortest_px=None, interpolation="bicubic"))


def test_published_settings_are_read(tmp_path):
    """As of openai/clip-vit-base-patch32, with its old names."""
    settings = {
        "crop_size": 224,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": 224,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    found = read_image_processor(tmp_path)
    assert found.framing == Framing(size_px=224, shortest_px=224, interpolation="bicubic")
    assert found.mean == (0.48145466, 0.4578275, 0.40821073)


@pytest.mark.parametrize(
    ("processor_class", "settings"),
    [
        (CLIPImageProcessor, {"resample": 1}),
        (CLIPImageProcessor, {"do_resize": False}),
        (CLIPImageProcessor, {"do_center_crop": False}),
        (CLIPImageProcessor, {"crop_size": {"height": 256, "width": 256}}),
        (CLIPImageProcessor, {"crop_size": {"height": 224, "width": 200}}),
        (SiglipImageProcessor, {"size": {"height": 224, "width": 200}}),
        (SiglipImageProcessor, {"do_normalize": False}),
        (SiglipImageProcessor, {"rescale_factor": 1 / 127.5}),
        (SiglipImageProcessor, {"do_pad": True}),
    ],
)
def test_what_is_not_reproduced_is_refused(tmp_path, processor_class, settings):
    processor_class(**settings).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="more or other than a bilinear or bicubic resize"):
        read_image_processor(tmp_path)


def test_other_processors_and_none_are_refused(tmp_path):
    with pytest.raises(ModelError, match="settings cannot be read"):
        read_image_processor(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_processor_type": "ViTImageProcessor"}')
    with pytest.raises(ModelError, match="CLIPImageProcessor or SiglipImageProcessor, found 'ViTImageProcessor'"):
        read_image_processor(tmp_path)
