"""The first section of `bench_gpu.py`: what the machine is, and the random model that others load."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator

import torch

from tests.benchmarks.gpu_report import Figure, NotPossibleError
from tests.benchmarks.gpu_setting import Setting
from tests.checkpoints import SIZES, save_random_checkpoint

# blip-vqa-base. Weights as they are initialised: wider ones would overflow in half precision.
BASE = {"image": 384, "patch": 16, "width": 768, "layers": 12, "heads": 12, "text_layers": 12, "text_heads": 12}
BASE |= {"mlp_ratio": 4, "num_tokens": 30_524, "max_positions": 512, "scale": 1}


def prepare(setting: Setting) -> Iterator[Figure]:
    """Notes what the machine is, and writes the random model."""
    gpu = torch.cuda.get_device_name() if setting.device.type == "cuda" else None
    if gpu is None and not setting.small:
        raise NotPossibleError("there is no GPU here; --small runs through on a CPU, with tiny sizes")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    machine = {
        "gpu": gpu or "CPU",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "commit": commit.stdout.strip() or "unknown",
        "date": time.strftime("%Y-%m-%d"),
        "sizes": "small" if setting.small else "full",
    }
    (setting.folder / "machine.json").write_text(json.dumps(machine))
    started = time.perf_counter()
    save_random_checkpoint(setting.model, **(SIZES["small"] if setting.small else BASE))
    yield Figure("random model written", time.perf_counter() - started, "s")
