"""Compiled networks for training: one whole graph, so that nothing of a step falls back to slow code unseen.

Measured on an H200 with a ResNet-50 in bfloat16, 224 px: 5,430 images/s compiled, 4,226 not, so 52 microseconds an
image are saved. Each process compiles again, and so does each stage, which trains other blocks: about a minute for a
network of that size. Hence the rule of `auto`, with a margin for smaller networks, which save less.
"""

import torch
from torch import Tensor, nn

from faceattr.config.train import CompileChoice
from faceattr.errors import ModelError
from faceattr.models.multitask import MultiAttributeModel
from faceattr.precision import Capability

_LEAST_IMAGES = 4_000_000
"""Images of the longest stage, each counted once an epoch, from which `auto` compiles."""
# Triton, which compiled kernels are written in, needs Volta.
_LEAST_CAPABILITY = (7, 0)
_INSTEAD = "--workers.compile off trains it as it is"


def choose_compile(
    choice: CompileChoice, *, capability: Capability | None, num_workers: int, num_images: int
) -> tuple[bool, str]:
    """Returns whether to compile, and why.

    Args:
        choice: what the user chose.
        capability: lowest compute capability of the GPUs; None for CPUs.
        num_workers: processes that train together. The images of a batch are not dealt evenly to several, and a graph
            is fastest for one shape.
        num_images: images of the longest stage, each counted once an epoch.
    """
    if choice != "auto":
        return choice == "on", "as given"
    for holds, why in (
        (capability is not None, "auto"),
        (capability is not None and capability >= _LEAST_CAPABILITY, "auto: the GPU is too old"),
        (num_workers == 1, "auto: several workers"),
        (num_images >= _LEAST_IMAGES, f"auto: {num_images:,} images are fewer than {_LEAST_IMAGES:,}"),
    ):
        if not holds:
            return False, why
    return True, f"auto: {num_images:,} images"


def find_graph_break(model: MultiAttributeModel) -> str | None:
    """Returns why a model cannot become one graph, in one line, or None; one small batch runs through it on the CPU."""
    side = model.backbone.preprocessing.size_px
    traced = torch.compile(model, fullgraph=True, dynamic=False, backend="eager")
    try:
        with torch.random.fork_rng(devices=[]):
            traced(torch.zeros(2, 3, side, side))
    except torch._dynamo.exc.TorchDynamoException as error:  # imported on first use
        return _explain(error)
    finally:
        torch.compiler.reset()
    return None


def check_whole_graph(model: MultiAttributeModel) -> None:
    """Raises ModelError if a model cannot become one graph."""
    why = find_graph_break(model)
    if why is not None:
        raise ModelError(
            f"--workers.compile on: torch.compile cannot make one graph of this network ({why}); {_INSTEAD}"
        )


class CompiledNetwork(nn.Module):
    """A network as one compiled graph; it shares the network's parameters.

    Args:
        network: the network, in the state of freezing that it trains in.
        one_shape: whether all batches have one shape. A graph for several shapes is less fast.
    """

    def __init__(self, network: nn.Module, *, one_shape: bool) -> None:
        super().__init__()
        self.compiled = torch.compile(network, fullgraph=True, dynamic=False if one_shape else None)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Returns the network's outputs.

        Raises:
            ModelError: it cannot be compiled.
        """
        try:
            outputs: dict[str, Tensor] = self.compiled(inputs)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise ModelError(
                f"the network cannot be compiled on this worker ({_explain(error)}); {_INSTEAD}"
            ) from error
        return outputs


def _explain(error: Exception) -> str:
    """Returns the line in which torch explains a graph break, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    explained = [line.removeprefix("Explanation: ") for line in lines if line.startswith("Explanation: ")]
    return (explained or lines or [type(error).__name__])[0]
