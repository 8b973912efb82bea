"""The training loop that one would write by hand: torch, a DataLoader, DDP. The peer of `pipelines/train.py`.

Same images, decoder, views, network and optimizer; prints images a second of every epoch but the first.

python tests/benchmarks/plain_train.py FOLDER --backbone resnet18 --size 64 --workers 2 --epochs 3 --batch 64
"""

import argparse
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler

sys.path.insert(0, str(Path(__file__).parents[2]))
from faceattr.config import ImageLimitsConfig
from faceattr.data.images.decode import decode_image
from faceattr.models.augment.train import TrainTransform
from faceattr.models.backbones.names import build_backbone
from faceattr.models.transforms import Normalise

NUM_OUTPUTS = 3


class Images(Dataset):
    """JPEG files with labels in `labels.pt`."""

    def __init__(self, folder: Path, transform: TrainTransform) -> None:
        self.paths = sorted(folder.glob("*.jpg"))
        self.labels = torch.load(folder / "labels.pt", weights_only=True)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int):
        pixels = decode_image(self.paths[index].read_bytes(), ImageLimitsConfig())
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
        return self.transform([image], seeds=[index])[0], self.labels[index]


def train(rank: int, given: argparse.Namespace) -> None:
    """One process of the group."""
    torch.manual_seed(0)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // given.workers))
    if given.workers > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(given.port)}
        dist.init_process_group("gloo", rank=rank, world_size=given.workers)
    backbone = build_backbone(given.backbone, pretrained=False, image_size=given.size)
    network = nn.Sequential(backbone, nn.Linear(backbone.num_features, NUM_OUTPUTS))
    wrapped = network if given.workers == 1 else DistributedDataParallel(network, gradient_as_bucket_view=True)
    images = Images(given.folder, TrainTransform(backbone.preprocessing))
    sampler = DistributedSampler(images, given.workers, rank, shuffle=True, drop_last=True)
    loader = DataLoader(
        images,
        given.batch // given.workers,
        sampler=sampler,
        num_workers=max(1, (os.cpu_count() or 1) // given.workers),
        drop_last=True,
        persistent_workers=True,
    )
    normalise, loss = Normalise(backbone.preprocessing), nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    for epoch in range(given.epochs):
        sampler.set_epoch(epoch)
        started, seen = time.perf_counter(), 0
        for inputs, labels in loader:
            optimizer.zero_grad(set_to_none=True)
            loss(wrapped(normalise(inputs)), labels).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            seen += len(inputs) * given.workers
        if rank == 0 and epoch:
            print(seen / (time.perf_counter() - started), flush=True)
    if given.workers > 1:
        dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--port", type=int, default=29511)
    given = parser.parse_args()
    if given.workers == 1:
        train(0, given)
    else:
        torch.multiprocessing.spawn(train, args=(given,), nprocs=given.workers)


if __name__ == "__main__":
    main()
