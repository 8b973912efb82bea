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
        "Writes a published label run as CSV or JSON.",
    ),
    Command(
        ("audit", "issues"),
        "faceattr.commands.audit_issues:AuditIssues",
        "Ranks the labels of a packed run by how probably they are wrong.",
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
