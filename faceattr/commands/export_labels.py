"""`faceattr export labels`: a published label run as a file that other tools read."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from faceattr.config import StorageConfig
from faceattr.data.exports import describe_export, export_labels, write_conflicts
from faceattr.data.stores.addresses import local_path
from faceattr.data.stores.local_files import make_parent
from faceattr.data.stores.open import open_store
from faceattr.logs import say


@dataclass(frozen=True, kw_only=True)
class ExportLabels:
    """Writes a published label run as CSV or JSON: image_path, the attributes, the derived attributes."""

    run: tyro.conf.Positional[str]
    """Run folder: a local path or s3://bucket/prefix."""
    format: Literal["csv", "json"] = "csv"
    """Format of the file."""
    output: Path | None = None
    """File to write. Default: labels.csv or labels.json in the current folder."""
    class_names: bool = False
    """Write labels of attributes with several classes as class names, not as class indices."""
    scores: bool = False
    """Also write `<name>_score`, and `<name>_score_<class>` for attributes with several classes."""
    storage: StorageConfig = field(default_factory=StorageConfig)

    def __call__(self) -> int:
        """Exports, and compares label columns that the run's input manifest had with the labels."""
        path = local_path(self.output or f"labels.{self.format}", "--output")
        make_parent(path, "--output")
        options = self.storage
        summary = export_labels(
            open_store(self.run, options),
            path,
            export_format=self.format,
            class_names=self.class_names,
            scores=self.scores,
            verify=options.verify,
        )
        conflicts_path = path.with_name(f"{path.stem}.conflicts.csv") if summary.num_compared else None
        if conflicts_path:
            write_conflicts(conflicts_path, summary)
        say(describe_export(summary, path, conflicts_path))
        return 0
