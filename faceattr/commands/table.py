"""The commands of `faceattr`, by name: a command's packages are imported when it is called.

A command is a frozen dataclass whose fields are its flags and whose call does the work and returns the exit code. Jobs
that need a cluster are the scripts in pipelines/ and tune/.
"""

import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        words: the words after `faceattr`.
        target: its class, as `module:name`.
        help: one line.
    """

    words: tuple[str, ...]
    target: str
    help: str

    def resolve(self) -> type[Callable[[], int]]:
        """Imports the class."""
        found: type[Callable[[], int]] = pkgutil.resolve_name(self.target)
        return found


COMMANDS: tuple[Command, ...] = (
    Command(
        ("predict",),
        "faceattr.commands.predict:Predict",
        "Predicts the attributes of a picture or of a folder of pictures.",
    ),
    Command(
        ("export", "model"),
        "faceattr.commands.export_model:ExportModel",
        "Writes a trained model as ONNX.",
    ),
    Command(
        ("export", "labels"),
        "faceattr.commands.export_labels:ExportLabels",
        "Writes a published label run as CSV or JSON, or for Label Studio, CVAT or FiftyOne.",
    ),
    Command(
        ("import", "judgements"),
        "faceattr.commands.import_judgements:ImportJudgements",
        "Reads people's answers from Label Studio, CVAT or FiftyOne.",
    ),
    Command(
        ("audit", "review"),
        "faceattr.commands.audit.review:AuditReview",
        "Opens a page on which people judge an audit's images.",
    ),
    Command(
        ("audit", "export"),
        "faceattr.commands.audit.export:AuditExport",
        "Writes an audit's sample for Label Studio, CVAT or FiftyOne.",
    ),
    Command(
        ("audit", "sample"),
        "faceattr.commands.audit.sample:AuditSample",
        "Draws the images of which people judge the labels.",
    ),
    Command(
        ("audit", "apply"),
        "faceattr.commands.audit.apply:AuditApply",
        "Estimates how right labels are from judgements, and chooses thresholds.",
    ),
    Command(
        ("audit", "issues"),
        "faceattr.commands.audit.issues:AuditIssues",
        "Ranks the labels of a packed run by how probably they are wrong.",
    ),
    Command(
        ("models",), "faceattr.commands.models:Models", "Prints the models that can label, and which are cached here."
    ),
    Command(("status",), "faceattr.commands.status:Status", "Prints the state of a run folder, without a cluster."),
    Command(
        ("plan",), "faceattr.commands.plan:PlanLabels", "Calculates time, machines, requests and cost of a label run."
    ),
)


def find_command(arguments: Sequence[str]) -> Command | None:
    """Returns the command that the first words name, or None."""
    for command in COMMANDS:
        if tuple(arguments[: len(command.words)]) == command.words:
            return command
    return None
