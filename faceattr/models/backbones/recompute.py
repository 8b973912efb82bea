"""Gradient checkpointing: only a function's input is kept, and the function is computed again for its gradients."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor
from torch.utils.checkpoint import checkpoint


def recompute(norms: Sequence[Any], function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """Calls a function whose activations are computed again for the gradients; its result and they do not change.

    Args:
        norms: batch norms of the function, which see the images twice; their statistics are updated once.
        function: the function. The second time it has the same random numbers.
        arguments: its arguments.
    """
    result: Tensor = checkpoint(
        function, *arguments, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), _at_rest(norms))
    )
    return result


@contextlib.contextmanager
def _at_rest(norms: Sequence[Any]) -> Iterator[None]:
    # With a momentum of 0 the statistics keep their values, and torch saves the same tensors as the first time.
    before = [(norm, norm.momentum, norm.num_batches_tracked.clone()) for norm in norms if norm.track_running_stats]
    for norm, _, _ in before:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, num_batches in before:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(num_batches)
