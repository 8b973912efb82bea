"""`faceattr audit export`: an audit's sample as tasks for Label Studio, CVAT or FiftyOne."""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from faceattr.audit.folder import read_sample
from faceattr.audit.review.other_tools import build_audit_tasks
from faceattr.config import StorageConfig
from faceattr.data.exchange.formats import TOOLS
from faceattr.data.exchange.tasks import ExchangeFormat, check_can_be_chosen
from faceattr.data.stores.local_files import choose_output
from faceattr.data.stores.open import open_store
from faceattr.errors import ConfigError
from faceattr.logs import say


@dataclass(frozen=True, kw_only=True)
class AuditExport:
    """Writes an audit's sample as tasks for a labelling tool. The tasks are blind: no label, no score."""

    folder: tyro.conf.Positional[str]
    """Audit folder, made by `faceattr audit sample`."""
    format: ExchangeFormat
    """The tool. `faceattr import judgements` reads its export back into the audit."""
    attribute: str | None = None
    """The attribute to judge: one file for each. May be left out if the audit has one."""
    output: Path | None = None
    """File to write, for FiftyOne a folder. Default: tasks.json, annotations.xml or fiftyone in the current folder, if
    there is none yet."""
    storage: StorageConfig = field(default_factory=StorageConfig)

    def __call__(self) -> int:
        """Writes the file."""
        tool = TOOLS[self.format]
        path = choose_output(self.output, tool.usual_name)
        store = open_store(self.folder, self.storage)
        sample = read_sample(store)
        names = [each.attribute.name for each in sample.audit.attributes]
        name = self.attribute or names[0]
        if name not in names or (self.attribute is None and len(names) > 1):
            raise ConfigError(f"--attribute {self.attribute}: expected one of {', '.join(names)}")
        attributes = check_can_be_chosen([sample.audit[name].attribute])
        count = tool.write(path, build_audit_tasks(sample, store.uri, name), attributes)
        say(f"wrote {count:,} images to judge for {name} to {path}")
        return 0
