"""A checked pack command: what it packs, by which rules, and what identifies it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from typing import Any

import pyarrow as pa

from faceattr.attributes import DEFAULT_THRESHOLD, Attribute
from faceattr.audit.threshold_file import read_thresholds
from faceattr.config import ImageLimitsConfig, PackConfig, StorageConfig
from faceattr.data.images.face_view import FaceView
from faceattr.data.packed.plan import SplitRules
from faceattr.data.packed.reader import PACK_KIND
from faceattr.data.packed.selection import SelectionCounts, select_labels
from faceattr.data.packed.splits import KEPT_SPLITS, SplitRatios
from faceattr.data.runs.run_attributes import Decision, read_decisions, scored_attributes
from faceattr.data.runs.version import RunRecord, check_fingerprint, read_record
from faceattr.data.sources.gather import GatheredLabels, ImagePlace, gather_labels, identify_label_run
from faceattr.data.sources.options import SourceOptions
from faceattr.data.stores.addresses import resolve_address, resolve_distinct
from faceattr.data.stores.open import open_output, open_store
from faceattr.data.stores.store import Store
from faceattr.inference.detect import detector_version
from faceattr.inference.faces import FaceFinder
from faceattr.jobs.pack.stages import Encoding, PackImages, ReadPlaces

# Increased by hand when a change of the code can change a row of a packed run.
PACKING_VERSION = 1
PACKING_PACKAGES = ("pillow", "simplejpeg")
_DEFAULT_QUALITY = 92


@dataclass(frozen=True, kw_only=True)
class PackJob:
    """A checked pack command.

    Attributes:
        config: the config as given.
        storage: how stores are accessed.
        output: the run folder.
        label_runs: address -> what identifies the label run.
        gathered: the labels and where their images are; None if the plan, which holds all that, is frozen already.
        selection: how many rows `--select` kept.
        thresholds: attribute -> decision of --thresholds.
    """

    config: PackConfig
    storage: StorageConfig
    output: Store
    label_runs: dict[str, dict[str, Any]]
    gathered: GatheredLabels | None
    selection: SelectionCounts | None
    thresholds: Mapping[str, Decision] = field(default_factory=dict)

    @property
    def faces(self) -> FaceView | None:
        """What is packed of an image; None for all of it."""
        config = self.config
        if config.faces == "none":
            return None
        return FaceView(mode=config.faces, margin=config.faces_margin, missing=config.faces_missing)

    @property
    def source_fingerprint(self) -> dict[str, Any]:
        """What determines which images and labels there are."""
        config, found = self.config, self.thresholds
        return {
            "labels": self.label_runs,
            "source": config.source,
            "root": config.root,
            "source_options": asdict(config.source_options),
            "select": {**asdict(config.select), "seed": config.splits.seed} if config.select.any_of else None,
            "limit": config.limit,
            "max_bytes": config.decode.max_bytes,
            # Left out of runs without, as of those that could not have any.
            **({"thresholds": {name: asdict(each) for name, each in found.items()}} if found else {}),
        }

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines the rows of the run."""
        view = self.faces
        faces = {} if view is None else {"faces": {"view": view.to_dict(), **detector_version()}}
        return {
            **self.source_fingerprint,
            **faces,
            "splits": asdict(self.config.splits),
            "conflicts": self.config.conflicts,
            "encoding": asdict(self.encoding),
            "max_pixels": self.config.decode.max_pixels,
            "shard_mb": self.config.shard_mb,
            "packing_version": PACKING_VERSION,
            "versions": {name: metadata.version(name) for name in PACKING_PACKAGES},
        }

    @property
    def notes(self) -> dict[str, Any]:
        """Further information for readers of run.json; class lists are in its `carried` schema."""
        if self.gathered is None:
            return {}
        labels = self.gathered.labels
        return {
            "attributes": {
                each.name: {"kind": each.kind, "classes": len(each.classes)} for each in labels.attributes.attributes
            },
            "teachers": {name: asdict(each) for name, each in labels.decisions.items()},
        }

    def describe_old_scores(self, record: RunRecord) -> list[str]:
        """Returns a line per attribute whose scores an earlier version packed without moving the threshold to 0.5."""
        if "teachers" in record.notes:
            return []
        lines = []
        for uri in self.label_runs:
            labels = read_record(open_store(resolve_address(uri, "--labels"), self.storage))
            for name, each in ({} if labels is None else read_decisions(labels)).items():
                if each.threshold != DEFAULT_THRESHOLD:
                    lines.append(
                        f"{uri}: an earlier version packed its scores of {name}, of which {each.threshold:g} is a yes; "
                        "a student cuts at 0.5, so pack into a new --output, where 0.5 is a yes as well"
                    )
        return lines

    @property
    def encoding(self) -> Encoding:
        """How images are stored."""
        quality = self.config.jpeg_quality
        if quality is None and (self.config.short_side_px is not None or self.faces is not None):
            quality = _DEFAULT_QUALITY
        return Encoding(short_side_px=self.config.short_side_px, quality=quality)

    @property
    def limits(self) -> ImageLimitsConfig:
        """Limits on the size of an image."""
        return self.config.decode

    def split_rules(self, gathered: GatheredLabels) -> SplitRules:
        """Returns the rules by which the splits are drawn."""
        splits = self.config.splits
        kept: dict[str, str | None] = dict(KEPT_SPLITS)
        for entry in splits.rename:
            old, _, new = entry.rpartition("=")
            kept[old] = None if new == "draw" else new
        has_identity = any(each.is_person for each in gathered.labels.attributes.attributes)
        return SplitRules(
            ratios=SplitRatios(train=splits.train, val=splits.val, test=splits.test),
            seed=splits.seed,
            official=kept if splits.official == "keep" else {},
            by_group=splits.by == "group" or (splits.by == "auto" and not has_identity),
        )

    def pack_images(self, places: Iterable[ImagePlace], schema: pa.Schema) -> PackImages:
        """Returns the stage that makes packed rows of plan rows."""
        read = ReadPlaces(tuple(places), self.storage, self.limits)
        return PackImages(read, self.config.decode.timeout_s, self.encoding, schema, self.faces)


def prepare_pack_job(config: PackConfig) -> PackJob:
    """Checks a command as far as possible without a cluster and without reading an image.

    Raises:
        ConfigError: the command cannot run as given.
        StorageError: a store cannot be accessed.
    """
    storage = config.storage
    output = open_output(config.output, storage)
    resolve_distinct(config.labels, "--labels")
    job = PackJob(
        config=config,
        storage=storage,
        output=output,
        label_runs={uri: identify_label_run(uri, storage) for uri in config.labels},
        gathered=None,
        selection=None,
        thresholds=_read_thresholds(config),
    )
    if job.faces is not None:
        FaceFinder(job.faces)  # the extra is installed, or the command ends here
    record = read_record(output)
    if record is not None:
        check_fingerprint(output, record, kind=PACK_KIND, fingerprint=job.fingerprint)
        return job
    gathered, selection = _gather(job)
    return replace(job, gathered=gathered, selection=selection)


def _read_thresholds(config: PackConfig) -> dict[str, Decision]:
    if config.thresholds is None:
        return {}
    attributes: dict[str, Attribute] = {}
    for uri in config.labels:
        record = read_record(open_store(resolve_address(uri, "--labels"), config.storage))
        attributes |= {} if record is None else scored_attributes(record)
    return read_thresholds(config.thresholds, config.storage, attributes)


def _gather(job: PackJob) -> tuple[GatheredLabels, SelectionCounts | None]:
    config = job.config
    gathered = gather_labels(
        resolve_distinct(config.labels, "--labels"),
        source=config.source,
        root=None if config.root is None else resolve_address(config.root, "--root"),
        options=SourceOptions(**asdict(config.source_options)),
        storage=job.storage,
        thresholds=job.thresholds,
    )
    if not config.select.any_of:
        return gathered, None
    labels, selection = select_labels(
        gathered.labels, any_of=config.select.any_of, negatives=config.select.negatives, seed=config.splits.seed
    )
    return replace(gathered, labels=labels), selection
