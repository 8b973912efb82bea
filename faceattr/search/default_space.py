"""The space of a search without `--space`, chosen by what its trials start from.

    from trained weights    loss weights, heads, freeze depth, learning rate, its decay over the depth, augmentation
    from random weights     loss weights, heads, learning rate, augmentation: frozen random blocks would learn nothing

The settings of the train job itself are part of the space, so that the first trial can have them.
"""

from collections.abc import Sequence

from faceattr.config.train import TrainConfig
from faceattr.search.distributions import Choice, Uniform
from faceattr.search.space import Searched, Space
from faceattr.training.recipe import find_start

# With more attributes, one weight per attribute would be too many settings to search.
_MOST_WEIGHTS = 8
_LR_FACTOR = 10.0
# Range for Adam on networks from random weights; extended if the job's own rate is outside.
_RANDOM_LRS = (3e-4, 1e-2)


def build_default_space(base: TrainConfig, attributes: Sequence[str], *, num_blocks: int, can_split: bool) -> Space:
    """Builds a space that fits the data's attributes, the backbone and its weights.

    Args:
        base: settings that the trials share, with every open setting chosen; the space contains these values.
        attributes: names of the attributes to learn.
        num_blocks: number of blocks of the backbone, including the stem.
        can_split: whether the backbone can be frozen in part and cached.
    """
    main, lr, strength = base.loss.main, base.fit.optim.lr, base.augmentation.strength
    searched: dict[str, Searched] = {}
    if main is not None and len(attributes) > 1:
        searched["loss.label_weight"] = Searched(_around(0.3, 1.0, base.loss.label_weight))
        searched["loss.aux_weight"] = Searched(_around(0.02, 0.5, base.loss.aux_weight))
    weighed = [name for name in attributes if name != main]
    if 1 < len(weighed) <= _MOST_WEIGHTS and min(base.loss.weights.values(), default=1.0) > 0:
        searched |= {
            f"loss.weights.{name}": Searched(_around(0.25, 4.0, base.loss.weights.get(name, 1.0), log=True))
            for name in weighed
        }
    searched["model.head"] = Searched(Choice(tuple(dict.fromkeys(("linear", "mlp", base.model.head)))))
    if find_start(base) == "random":
        searched["optim.lr"] = Searched(
            _around(*_RANDOM_LRS, lr, log=True)
            if base.optim.name != "sgd"
            else Uniform(lr / _LR_FACTOR, lr * _LR_FACTOR, log=True)
        )
        searched["augment.strength"] = Searched(Choice(_ascending(0.0, strength, min(1.0, 3 * strength))))
        return Space({}, searched)
    thawed = _thawed_depths(num_blocks) if can_split else (0,)
    own = base.freeze.depth
    open_depths = thawed if own in ("all", -1, *thawed) else (*thawed, own)
    searched["freeze.depth"] = Searched(Choice((own if own == -1 else "all", *open_depths)))
    searched["optim.lr"] = Searched(Uniform(lr / _LR_FACTOR, lr * _LR_FACTOR, log=True))
    where_open = {"freeze.depth": open_depths}
    layer_decay = base.fit.optim.layer_decay
    searched["optim.layer_decay"] = Searched(_around(0.6, 1.0, layer_decay), where_open, (1.0,))
    # Without augmentation frozen blocks are computed once; see `faceattr.search.cache_choice`.
    searched["augment.strength"] = Searched(Choice(_ascending(0.0, 0.5, 1.0, strength)), where_open, (0.0,))
    return Space({}, searched)


def _around(low: float, high: float, own: float, *, log: bool = False) -> Uniform:
    """Returns a range that contains the job's own value."""
    return Uniform(min(low, own), max(high, own), log=log)


def _ascending(*values: float) -> tuple[float, ...]:
    return tuple(sorted({round(value, 3) for value in values}))


def _thawed_depths(num_blocks: int) -> tuple[int, ...]:
    """Returns the depths that leave the last block, the last quarter and the last half of the blocks to train."""
    depths = {num_blocks - max(1, round(num_blocks * share)) for share in (1 / num_blocks, 1 / 4, 1 / 2)}
    return tuple(sorted((depth for depth in depths if depth > 0), reverse=True)) or (0,)
