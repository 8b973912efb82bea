"""The space of a search that names none: loss weights, freeze depth, heads, learning rates, augmentation."""

from collections.abc import Sequence

from faceattr.search.distributions import Choice, Uniform
from faceattr.search.space import Searched, Space
from faceattr.training.train_config import TrainConfig

# With more attributes a weight for each would be too many settings to search.
_MOST_WEIGHTS = 8
_LR_FACTOR = 10.0


def build_default_space(base: TrainConfig, attributes: Sequence[str], *, num_blocks: int, can_split: bool) -> Space:
    """A space that fits the data's attributes and the backbone.

    Args:
        base: settings that the trials share; learning rates are searched around its own.
        attributes: names of the learnt ones.
        num_blocks: of the backbone, stem included.
        can_split: whether it can be frozen in part and cached.
    """
    main = base.loss.main
    searched: dict[str, Searched] = {}
    if main is not None and len(attributes) > 1:
        searched["loss.label_weight"] = Searched(Uniform(0.3, 1.0))
        searched["loss.aux_weight"] = Searched(Uniform(0.02, 0.5))
    weighed = [name for name in attributes if name != main]
    if 1 < len(weighed) <= _MOST_WEIGHTS:
        searched |= {f"loss.weights.{name}": Searched(Uniform(0.25, 4.0, log=True)) for name in weighed}
    thawed = _thawed_depths(num_blocks) if can_split else (0,)
    searched["freeze.depth"] = Searched(Choice(("all", *thawed)))
    searched["model.head"] = Searched(Choice(("linear", "mlp")))
    searched["optim.lr"] = Searched(Uniform(base.optim.lr / _LR_FACTOR, base.optim.lr * _LR_FACTOR, log=True))
    where_thawed = {"freeze.depth": thawed}
    searched["optim.layer_decay"] = Searched(Uniform(0.6, 1.0), where_thawed, (1.0,))
    # Without augmentation frozen blocks are computed once; see `faceattr.search.cache_rule`.
    searched["augment.strength"] = Searched(Choice((0.0, 0.5, 1.0)), where_thawed, (0.0,))
    return Space({}, searched)


def _thawed_depths(num_blocks: int) -> tuple[int, ...]:
    """Depths that leave the last block, the last quarter and the last half of the blocks to train."""
    depths = {num_blocks - max(1, round(num_blocks * share)) for share in (1 / num_blocks, 1 / 4, 1 / 2)}
    return tuple(sorted((depth for depth in depths if depth > 0), reverse=True)) or (0,)
