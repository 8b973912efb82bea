from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BlipVisionConfig, BlipVisionModel

from faceattr.vqa.blip.flops import count_image, count_question
from faceattr.vqa.blip.network.architecture import read_sizes
from faceattr.vqa.flops import count_tower


def test_a_tower_costs_what_torch_counts():
    config = BlipVisionConfig(
        hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=2, image_size=20, patch_size=5
    )
    model = BlipVisionModel(config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(pixel_values=torch.zeros(1, 3, 20, 20))
    expected = counter.get_total_flops() / 1e9
    assert count_tower(image_px=20, patch_px=5, width=24, hidden=40, layers=3) == pytest.approx(expected, rel=1e-9)


def test_blip_vqa_base_costs_what_the_benchmark_counted():
    # docs/benchmarks.md: 3 questions 136.7 GFLOP, 8 questions 152.6.
    sizes = read_sizes({}, Path("config.json"))
    image, question = count_image(sizes), count_question(sizes)
    assert image + 3 * question == pytest.approx(136.7, rel=0.01)
    assert image + 8 * question == pytest.approx(152.6, rel=0.01)
