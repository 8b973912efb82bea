"""`faceattr import judgements`: what people answered in Label Studio, CVAT or FiftyOne."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from faceattr.audit.folder import AUDIT_KEY, read_sample
from faceattr.audit.judgements import ANSWERS_KEY, append_judgements, read_judgements
from faceattr.audit.review.other_tools import match_answers
from faceattr.data.exchange.formats import TOOLS
from faceattr.data.exchange.label_tables import LABEL_TABLE_ENDINGS, LastAnswers, keep_last_answers, write_label_table
from faceattr.data.exchange.tasks import ExchangeFormat
from faceattr.data.stores.addresses import local_path
from faceattr.data.stores.local import LocalStore
from faceattr.data.stores.local_files import make_parent
from faceattr.errors import ConfigError
from faceattr.logs import say


@dataclass(frozen=True, kw_only=True)
class ImportJudgements:
    """Reads people's answers from a labelling tool's export: into an audit, or as a table of labels for packing."""

    file: tyro.conf.Positional[str]
    """The tool's export: Label Studio's JSON, CVAT's XML or ZIP ("CVAT for images 1.1"), FiftyOne's labels.json or a
    folder with one for each attribute."""
    format: ExchangeFormat
    """The tool."""
    output: str
    """An audit folder: answers about its items are appended to its judgements. Or a new .csv or .parquet file: one row
    for each image, a column for each attribute, for `pipelines/pack.py --source table`."""
    reviewer: str | None = None
    """Name for answers whose file does not say who gave them, as CVAT's and FiftyOne's do not. Default: the tool's."""

    def __call__(self) -> int:
        """Reads the export and says what became of its answers."""
        file, output = local_path(self.file, "the file"), local_path(self.output, "--output")
        if not file.exists():
            raise ConfigError(f"{file} does not exist")
        is_audit = (output / AUDIT_KEY).is_file()
        if not is_audit and (output.suffix not in LABEL_TABLE_ENDINGS or output.exists()):
            raise ConfigError(
                f"--output {output}: expected an audit folder, or a new file that ends in "
                f"{' or '.join(LABEL_TABLE_ENDINGS)}"
            )
        try:
            found = keep_last_answers(TOOLS[self.format].read(file))
        except OSError as error:
            raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
        if found.num_contradictory:
            say(f"left out {found.num_contradictory:,} questions with contradictory answers of one reviewer")
        if is_audit:
            self._add_to_audit(output, found)
        else:
            make_parent(output, "--output")
            count = write_label_table(output, found.answers)
            say(f"wrote {count:,} images with {len(found.answers):,} answers to {output}")
        return 0

    def _add_to_audit(self, folder: Path, found: LastAnswers) -> None:
        store = LocalStore(folder)
        sample = read_sample(store)
        logged = read_judgements(store)
        matched = match_answers(sample, store.uri, logged, found.answers, self.reviewer or self.format)
        append_judgements(folder / ANSWERS_KEY, matched.judgements)
        who = sorted({each.reviewer for each in matched.judgements})
        say(
            f"added {len(matched.judgements):,} judgements" + (f" of {', '.join(who)}" if who else "") + f" to {folder}"
            f"; {matched.num_known:,} were there already, {matched.num_foreign:,} are not about items of its sample"
        )
