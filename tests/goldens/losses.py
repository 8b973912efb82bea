"""The losses of a training of three steps at a fixed seed, on the CPU in float32, without a cluster."""

from typing import Any

import torch

from faceattr.config.fit import FitConfig, OptimConfig
from faceattr.training.loop.fit import EpochBatches, fit
from faceattr.training.loop.ranks import Ranks
from faceattr.training.loop.state import EpochRecord, TrainingState
from tests.training.toy import build_toy, count, make_batch

# Relative; other CPUs add in another order. Those with AVX-512, AVX2 or SSE differ by 1.2e-7.
TOLERANCE = 1e-6


def collect_losses() -> dict[str, Any]:
    """Learning rate and losses of each step, which is an epoch; and the fingerprint that stands in its checkpoints."""
    train, val = [make_batch(16, seed) for seed in range(3)], [make_batch(40, 100)]
    found: list[tuple[EpochRecord, str]] = []

    def report(record: EpochRecord, state: TrainingState) -> None:
        found.append((record, state.fingerprint))

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        fit(
            build_toy(norm=False),  # batch norm would multiply what the last bits differ by
            EpochBatches(train=lambda epoch: [train[epoch]], val=lambda: iter(val), num_train=1),
            FitConfig(optim=OptimConfig(lr=1e-2, epochs=3)),
            counts=count(train),
            ranks=Ranks(device=torch.device("cpu")),
            report=report,
        )
    finally:
        torch.set_num_threads(threads)
    return {
        "fingerprint": found[0][1],
        "steps": [
            {name: value for name, value in record.items() if name in ("lr", "objective") or name.endswith("loss")}
            for record, _ in found
        ],
    }
