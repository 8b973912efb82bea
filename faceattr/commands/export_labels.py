"""`faceattr export labels`: a published label run as a file that other tools read, whole or in part."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from faceattr.config import StorageConfig
from faceattr.data.exchange.formats import TOOLS
from faceattr.data.exchange.run_tasks import read_run_tasks
from faceattr.data.exchange.tasks import ExchangeFormat, check_can_be_chosen
from faceattr.data.exports import (
    describe_export,
    export_labels,
    read_label_record,
    select_run_attributes,
    write_conflicts,
)
from faceattr.data.hub.label_dataset import open_run_images, write_label_dataset
from faceattr.data.row_filter import RowFilter
from faceattr.data.stores.local_files import choose_output, make_parent
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError
from faceattr.logs import say
from faceattr.reports.hub_cards import write_dataset_card


@dataclass(frozen=True, kw_only=True)
class ExportLabels:
    """Writes a published label run as CSV or JSON, as a Hugging Face data set, or as tasks for a labelling tool.

    A row of CSV or JSON has image_path, the attributes and the derived attributes; a data set has all columns, and
    tasks have the model's predictions.
    """

    run: tyro.conf.Positional[str]
    """Run folder: a local path or s3://bucket/prefix."""
    format: Literal["csv", "json", "dataset"] | ExchangeFormat = "csv"
    """Format of the file; `dataset` is a folder with a card, which `datasets.load_dataset` reads. Answers that people
    give in a labelling tool come back by `faceattr import judgements`."""
    output: Path | None = None
    """File to write, for FiftyOne and `dataset` a folder. Default: labels.csv, labels.json, dataset, tasks.json (Label
    Studio), annotations.xml (CVAT) or fiftyone in the current folder, if it is not there yet."""
    attributes: tuple[str, ...] = ()
    """Attributes to write. Default: all."""
    where: str | None = None
    """Which rows to write, such as "0.3 < hat_score < 0.7 and glasses is not None". Default: all. It names columns of
    the label table; the score of an attribute with several classes stands for its largest."""
    limit: int | None = None
    """Most rows to write. Default: all."""
    class_names: bool = False
    """Write labels of attributes with several classes as class names, not as class indices."""
    scores: bool = False
    """Also write `<name>_score`, and `<name>_score_<class>` for attributes with several classes."""
    images: bool = False
    """Write the images, too; with `--format dataset` only."""
    storage: StorageConfig = field(default_factory=StorageConfig)

    def __call__(self) -> int:
        """Exports; for csv and json, compares label columns that the run's input manifest had with the labels."""
        where = None if self.where is None else RowFilter(self.where)
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit {self.limit}: expected 1 or more")
        if self.images and self.format != "dataset":
            raise ConfigError("--images: only --format dataset has images; leave it out")
        store = open_store(self.run, self.storage)
        match self.format:
            case "csv" | "json":
                return self._export_table(store, self.format, where)
            case "dataset":
                return self._export_dataset(store, where)
            case _:
                return self._export_tasks(store, self.format, where)

    def _export_table(self, store: Store, export_format: Literal["csv", "json"], where: RowFilter | None) -> int:
        path = choose_output(self.output, f"labels.{export_format}")
        make_parent(path, "--output")
        summary = export_labels(
            store,
            path,
            export_format=export_format,
            class_names=self.class_names,
            scores=self.scores,
            names=self.attributes,
            where=where,
            limit=self.limit,
            verify=self.storage.verify,
        )
        conflicts_path = path.with_name(f"{path.stem}.conflicts.csv") if summary.num_compared else None
        if conflicts_path:
            write_conflicts(conflicts_path, summary)
        say(describe_export(summary, path, conflicts_path))
        return 0

    def _export_dataset(self, store: Store, where: RowFilter | None) -> int:
        if self.class_names or self.scores:
            raise ConfigError("--class-names and --scores are for csv and json; --format dataset has both")
        folder = choose_output(self.output, "dataset")
        dataset = write_label_dataset(
            store,
            folder,
            names=self.attributes,
            where=where,
            limit=self.limit,
            images=open_run_images(store, self.storage) if self.images else None,
            verify=self.storage.verify,
        )
        (folder / "README.md").write_text(write_dataset_card(dataset), encoding="utf-8")
        with_images = f" with {dataset.num_images:,} images" if self.images else ", without the images"
        say(f"wrote {dataset.num_rows:,} rows{with_images} to {folder}")
        say(f"read it with datasets.load_dataset({str(folder)!r}, split='train')")
        return 0

    def _export_tasks(self, store: Store, tool_name: ExchangeFormat, where: RowFilter | None) -> int:
        if self.class_names or self.scores:
            raise ConfigError(f"--class-names and --scores are for csv and json; --format {tool_name} has both")
        tool = TOOLS[tool_name]
        path = choose_output(self.output, tool.usual_name)
        attributes = select_run_attributes(read_label_record(store), self.attributes)
        chosen = check_can_be_chosen(attributes.values())
        tasks = read_run_tasks(store, attributes, where=where, limit=self.limit, verify=self.storage.verify)
        say(f"wrote {tool.write(path, tasks, chosen):,} images to {path}")
        return 0
