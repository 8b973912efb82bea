"""The checkpoint from which a training with other settings starts, and what of it stays valid.

    weights, number of epochs       always
    best epoch, records             if figures mean the same: data, selection, crop and, where it is selected by, loss
    the optimizer's moments         if the same optimizer trains the same parameters
    learnt loss weights             if the loss is the same
    loss scale of float16           if the precision is the same

The attributes and the network must be the same. Everything is chosen from the two runs' records, before a cluster is
used, and recorded in run.json.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from faceattr.attributes import AttributeSet
from faceattr.config.fit import SelectionConfig
from faceattr.config.train import ResumePlace, TrainConfig
from faceattr.data.formats.json_text import encode_json
from faceattr.data.runs.differences import describe_differences, differing_keys
from faceattr.data.runs.lease import find_driver
from faceattr.data.runs.version import RunRecord, read_record
from faceattr.data.stores.addresses import with_addresses
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError
from faceattr.training.history import read_history
from faceattr.training.loop.checkpoints import list_complete_checkpoints
from faceattr.training.loop.selection import find_best_epoch
from faceattr.training.loop.state import Kept

ORIGIN_KEY = "resumed_from"
"""Key in the notes and the fingerprint of a run."""
_NETWORK = ("attributes", "model", "lora", "backbone_with_quickgelu")
_FREE_OF_NETWORK = "model.crop_fraction"
_MEANING = ("data", "select.metric", "select.combine", _FREE_OF_NETWORK, "training_version")
_MOMENTS = ("optim.name", "freeze", "loss.weighting")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A checkpoint of another training.

    Attributes:
        uri: folder of that training.
        run_id: id of that training.
        place: whether it is its last checkpoint or that of its best epoch.
        epoch: number of its finished epochs.
        fingerprint: fingerprint of the checkpoint.
        changed: a line for each setting that differs.
        kept: what stays valid.
    """

    uri: str
    run_id: str
    place: ResumePlace
    epoch: int
    fingerprint: str
    changed: tuple[str, ...]
    kept: Kept

    @property
    def deciding(self) -> dict[str, Any]:
        """What decides where the training starts."""
        return {"run_id": self.run_id, "epoch": self.epoch, "fingerprint": self.fingerprint}

    @property
    def note(self) -> dict[str, Any]:
        """The JSON values of which `read_origin` makes an equal origin."""
        return {**asdict(self), "changed": list(self.changed)}

    def __str__(self) -> str:
        lost = [
            text
            for kept, text in (
                (self.kept.best, "its best epoch does not count, since figures mean something else now"),
                (self.kept.moments, "the optimizer's moments start again"),
            )
            if not kept
        ]
        changes = f"other settings: {'; '.join(self.changed)}" if self.changed else "the same settings"
        return "; ".join([f"the checkpoint after epoch {self.epoch} of {self.uri}, with {changes}", *lost])


def read_origin(record: RunRecord | None) -> Origin | None:
    """Returns the origin in a run's record, or None."""
    note = None if record is None else record.notes.get(ORIGIN_KEY)
    return None if note is None else Origin(**{**note, "changed": tuple(note["changed"]), "kept": Kept(**note["kept"])})


def find_origin(
    config: TrainConfig, output: Store, *, fingerprint: Mapping[str, Any], attributes: AttributeSet
) -> Origin | None:
    """Finds what `--resume-from` names; None without it. A run that has begun keeps its checkpoint.

    Args:
        config: config of the new training, without `auto`.
        output: folder of the new training.
        fingerprint: everything that determines what it learns, apart from the origin.
        attributes: the attributes that it learns.

    Raises:
        ConfigError: there is no checkpoint to start from, or it does not fit.
    """
    if config.resume_from is None:
        return None
    store = open_store(config.resume_from, config.storage)
    begun = read_origin(read_record(output))
    if begun is not None and (begun.uri, begun.place) == (store.uri, config.resume_at):
        return begun
    flag = f"--resume-from {config.resume_from}"
    if store.uri == output.uri:
        raise ConfigError(
            f"{flag}: is the --output too. Choose another folder for other settings; without --resume-from the same "
            "settings are resumed"
        )
    record = read_record(store)
    if record is None or record.kind != "train":
        raise ConfigError(f"{flag}: expected a model folder of `faceattr train`, found {_name_kind(record)}")
    driver = find_driver(store)
    if driver is not None:
        raise ConfigError(f"{flag}: process {driver['pid']} on {driver['host']} still trains it; stop it first")
    there = {key: value for key, value in record.fingerprint.items() if key != ORIGIN_KEY}
    here = json.loads(encode_json(fingerprint))
    _check_network(flag, record, there, here, attributes)
    keys = differing_keys(with_addresses(there), with_addresses(here))
    epoch, found = _choose_checkpoint(store, record, config.resume_at, flag)
    if epoch >= config.optim.epochs:
        raise ConfigError(
            f"--optim.epochs {config.optim.epochs}: {epoch} epochs are over in {flag.removeprefix('--')}, and they "
            "count; choose more"
        )
    return Origin(
        uri=store.uri,
        run_id=record.run_id,
        place=config.resume_at,
        epoch=epoch,
        fingerprint=found,
        changed=tuple(describe_differences(with_addresses(there), with_addresses(here))),
        kept=_choose_kept(config, keys),
    )


def _name_kind(record: RunRecord | None) -> str:
    return "no run" if record is None else f"a {record.kind} run"


def _check_network(
    flag: str, record: RunRecord, there: Mapping[str, Any], here: Mapping[str, Any], attributes: AttributeSet
) -> None:
    networks = [with_addresses({key: each.get(key) for key in _NETWORK}) for each in (there, here)]
    lines = describe_differences(*networks)
    differences = [line for line in lines if not line.startswith(f"{_FREE_OF_NETWORK}:")]
    own = json.loads(encode_json([asdict(each) for each in attributes.attributes]))
    if own != record.notes["attributes"]:
        theirs = [each["name"] for each in record.notes["attributes"]]
        differences.append(f"attributes: there {theirs}, here {list(attributes.names)}, or with other classes")
    if differences:
        raise ConfigError(
            f"{flag}: its network and attributes have to stay. To start another network from a trained model, use "
            "--model.checkpoint:\n  " + "\n  ".join(differences)
        )


def _choose_checkpoint(store: Store, record: RunRecord, place: ResumePlace, flag: str) -> tuple[int, str]:
    """Returns the number of finished epochs and the fingerprint of the chosen checkpoint."""
    history = read_history(store)
    diverged = {int(each["epoch"]) + 1 for each in history if not math.isfinite(each["train/loss"] + each["val/loss"])}
    found = {epoch: name for epoch, name in list_complete_checkpoints(store).items() if epoch not in diverged}
    if not found:
        raise ConfigError(
            f"{flag}: holds no complete checkpoint of an epoch that did not diverge; start a new training"
        )
    if place == "last":
        return max(found.items())
    best = find_best_epoch(history, SelectionConfig(**record.config["select"])) + 1 if history else 0
    if best not in found:
        raise ConfigError(
            f"--resume-at best: the checkpoint of its best epoch, {best}, is not there, only {sorted(found)}; use last"
        )
    return best, found[best]


def _choose_kept(config: TrainConfig, changed: list[str]) -> Kept:
    def is_changed(*groups: str) -> bool:
        return any(key == group or key.startswith(f"{group}.") for key in changed for group in groups)

    by_loss = any(metric.rpartition("/")[2] == "loss" for metric in config.select.combine or [config.select.metric])
    # The epochs of stages follow from the number of all epochs.
    moved = config.freeze.schedule != "constant" and is_changed("optim.epochs")
    return Kept(
        best=not is_changed(*_MEANING) and not (by_loss and is_changed("loss")),
        moments=not is_changed(*_MOMENTS) and not moved,
        weighting=not is_changed("loss"),
        scale=not is_changed("optim.precision"),
    )
