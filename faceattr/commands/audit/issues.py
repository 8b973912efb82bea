"""`faceattr audit issues`: a ranked list of the labels of a packed run that are probably wrong."""

from dataclasses import dataclass, field

import tyro

from faceattr.attributes import Attribute
from faceattr.config import ImageLimitsConfig, PrecisionChoice, StorageConfig
from faceattr.config.flags import check_each_once
from faceattr.data.formats.parquet import encode_table, with_provenance
from faceattr.data.packed.label_issues import ISSUES_SCHEMA_VERSION, LABEL_ISSUES_KEY
from faceattr.data.packed.reader import PackedData, open_packed
from faceattr.data.runs.version import read_record
from faceattr.data.sources.options import near_hint
from faceattr.data.stores.addresses import resolve_address
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.open import open_output, open_store
from faceattr.data.stores.store import has_object
from faceattr.errors import ConfigError, RunError
from faceattr.logs import say


@dataclass(frozen=True, kw_only=True)
class AuditIssues:
    """Ranks the labels of a packed run by how probably they are wrong, and writes label_issues.parquet.

    Every label is judged by linear heads that have not learnt from it (out of fold), on the features of a backbone that
    sees each image once. Needs no cluster.
    """

    packed: tyro.conf.Positional[str]
    """Packed run: a local path or s3://bucket/prefix."""
    output: str
    """Folder of label_issues.parquet and of the features: a local path or s3://bucket/prefix."""
    model: str | None = None
    """A trained model whose backbone computes the features: a local folder, a Hugging Face hub id, or
    s3://bucket/folder. It may have learnt from these labels, if not for so long that it knows them by heart. Default:
    --backbone with its published weights."""
    backbone: str = "resnet18"
    """Backbone if there is no --model, by name as in pipelines/train.py."""
    attributes: tuple[str, ...] = ()
    """Attributes to judge. Default: all that have classes; persons and ages are not judged."""
    folds: int = 5
    """Number of folds. Images of one person, and byte-identical ones, are in one fold."""
    seed: int = 0
    """Random seed of the folds and of the order in which the heads see the rows."""
    batch_size: int = 64
    """Images per forward pass of the backbone."""
    precision: PrecisionChoice = "auto"
    """Data type of the backbone's computation. auto: bfloat16 on GPUs from Ampere on, else float32."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:<number>."""
    decode: ImageLimitsConfig = field(default_factory=ImageLimitsConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)

    def __post_init__(self) -> None:
        check_each_once("attributes", self.attributes)
        for flag, value, least in (("folds", self.folds, 2), ("batch-size", self.batch_size, 1)):
            if value < least:
                raise ConfigError(f"--{flag}: expected {least} or more, found {value}")

    def __call__(self) -> int:
        """Computes the features that are missing, judges, writes the list, and prints a summary."""
        data = open_packed([self.packed], self.storage, needs=())
        if not any(data.splits.values()):
            raise ConfigError(f"{self.packed}: has no image")
        output = open_output(self.output, self.storage)
        if has_object(output, LABEL_ISSUES_KEY):
            raise ConfigError(f"--output {self.output}: has a {LABEL_ISSUES_KEY} already; use another folder")
        store = open_store(resolve_address(self.packed, "the packed run"), self.storage)
        record = read_record(store)
        if record is None:
            raise RunError(f"{store.uri}: run.json has vanished; start the command again")
        attributes = self._choose(data)
        # Late: torch and the packages that need it take seconds to import; a wrong flag or path is reported before.
        from faceattr.audit.issues.backbone import compute_features  # noqa: PLC0415
        from faceattr.audit.issues.find import describe_issues, find_label_issues  # noqa: PLC0415
        from faceattr.audit.issues.rules import read_rules  # noqa: PLC0415

        features, weights_id = compute_features(
            data,
            output.uri,
            model=self.model,
            backbone=self.backbone,
            device=self.device,
            precision=self.precision,
            batch_size=self.batch_size,
            limits=self.decode,
        )
        found = find_label_issues(
            data,
            record.plan,
            features,
            attributes=attributes,
            rules=read_rules(record, data.attributes, self.storage),
            num_folds=self.folds,
            seed=self.seed,
            device=self.device,
        )
        provenance = {
            "schema_version": ISSUES_SCHEMA_VERSION,
            "packed": store.uri,
            "run_id": record.run_id,
            "data": data.fingerprint,
            "weights": weights_id,
            "folds": self.folds,
            "seed": self.seed,
        }
        table = found.table.cast(with_provenance(found.table.schema, provenance))
        if not output.put_if_absent(LABEL_ISSUES_KEY, encode_table(table)):
            raise RunError(f"{output.uri}: another command has written {LABEL_ISSUES_KEY} meanwhile")
        where = join_uri(output.uri, LABEL_ISSUES_KEY)
        say(f"{describe_issues(found)}\nlist     {where}\nleave    faceattr pack ... --drop-issues {where}")
        return 0

    def _choose(self, data: PackedData) -> tuple[Attribute, ...]:
        known = data.attributes.names
        for name in self.attributes:
            if name not in known:
                raise ConfigError(f"--attributes: the packed run has no {name!r}; {near_hint(name, known)}")
        return tuple(each for each in data.attributes.attributes if not self.attributes or each.name in self.attributes)
