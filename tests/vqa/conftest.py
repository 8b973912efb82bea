"""Small random checkpoints of several shapes, loaded once."""

from pathlib import Path

import numpy as np
import pytest
import torch

from faceattr.vqa.blip.checkpoint import BlipCheckpoint, load_blip
from faceattr.vqa.blip.oracle.modules import HfBlip, load_hf_blip
from tests.checkpoints import SIZES, save_random_checkpoint


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def checkpoint_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Size name -> checkpoint folder."""
    root = tmp_path_factory.mktemp("blip")
    return {name: save_random_checkpoint(root / name, seed=i, **size) for i, (name, size) in enumerate(SIZES.items())}


@pytest.fixture(scope="session")
def checkpoints(checkpoint_folders: dict[str, Path]) -> dict[str, BlipCheckpoint]:
    """Size name -> loaded checkpoint."""
    return {name: load_blip(str(folder)) for name, folder in checkpoint_folders.items()}


@pytest.fixture(scope="session")
def references(checkpoint_folders: dict[str, Path]) -> dict[str, HfBlip]:
    """Size name -> the same checkpoint in transformers' classes."""
    return {name: load_hf_blip(str(folder)) for name, folder in checkpoint_folders.items()}


@pytest.fixture(scope="session")
def reference(references: dict[str, HfBlip]) -> HfBlip:
    """The smallest one."""
    return references["small"]


@pytest.fixture(scope="session")
def checkpoint(checkpoints: dict[str, BlipCheckpoint]) -> BlipCheckpoint:
    """The smallest one."""
    return checkpoints["small"]


@pytest.fixture(scope="session")
def draw_images():
    """(n, size_px) -> uint8 [n, size_px, size_px, 3]: smooth colour fields, which differ much more than noise does."""

    def draw(n: int, size_px: int, seed: int = 0) -> np.ndarray:
        coarse = np.random.default_rng(seed).integers(0, 256, size=(n, 3, 3, 3)).astype(np.float32)
        fields = torch.nn.functional.interpolate(
            torch.from_numpy(coarse).permute(0, 3, 1, 2), size=(size_px, size_px), mode="bilinear"
        )
        return fields.permute(0, 2, 3, 1).round().to(torch.uint8).contiguous().numpy()

    return draw
