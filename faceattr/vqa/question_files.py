"""Question sets as YAML: the built-in ones and the user's own. A wrong file is refused with line and key.

A file with one attribute and all its options (`sets/*.yaml` are the built-in ones):

    # attributes:
    #   hat:
    #     questions:                    paraphrases, averaged in log space
    #       - is the person wearing a hat?
    #       - {text: "is the head bare?", inverted: true}
    #     prompts:                      for models that compare an image with texts, such as CLIP and SigLIP; several of
    #       yes: [a photo of a person with a hat]       an answer are averaged. Default: each question with the answer
    #       no: [a photo of a bare head]                after it
    #     answers: [no, yes]            the default; any list, or `class: text` lines, for a multiclass attribute
    #     unknown: [cannot tell]        answers that give no label and no score where they win; default: none
    #     threshold: 0.5                a score of at least this value is labelled 1
    #     abstain: [0.45, 0.55]         scores in between are labelled null; one number for a multiclass attribute
    # derived:
    #   label: not hat
"""

import difflib
import functools
from collections.abc import Callable, Sequence
from importlib import resources
from typing import TypeVar

import yaml

from faceattr.attributes import Attribute, DerivedAttribute
from faceattr.data.stores.addresses import local_path
from faceattr.errors import ConfigError
from faceattr.vqa.questions import AskedAttribute, QuestionSet
from faceattr.yaml_files import YamlProblemError, compose_yaml

_T = TypeVar("_T")


def builtin_sets() -> tuple[str, ...]:
    """Returns the names of the question sets in the package."""
    folder = resources.files("faceattr.vqa") / "sets"
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def load_question_set(name_or_path: str) -> QuestionSet:
    """Loads a built-in set by name, or a user's YAML file by path.

    Raises:
        ConfigError: there is no such set or file, or the file is wrong; the text names line and key.
    """
    if name_or_path in builtin_sets():
        text = (resources.files("faceattr.vqa") / "sets" / f"{name_or_path}.yaml").read_text("utf-8")
        return parse_question_set(text, name=name_or_path, where=f"built-in set {name_or_path}")
    path = local_path(name_or_path, "--attributes")
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"--attributes {name_or_path!r}: expected one of {', '.join(builtin_sets())}, or a .yaml file of your own"
        )
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"--attributes {name_or_path!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--attributes {name_or_path!r} is not UTF-8 text: {error}") from error
    return parse_question_set(text, name=path.stem, where=name_or_path)


def parse_question_set(text: str, *, name: str, where: str) -> QuestionSet:
    """Parses the YAML of a question set; every error text starts with `where`.

    Raises:
        ConfigError: the text is wrong; the error names line and dotted key.
    """
    try:
        root = compose_yaml(text, unique_keys=False)  # the reader's error names the repeated key's parent
    except YamlProblemError as error:
        line = f" line {error.line}" if error.line else ""
        hint = "; inside [ ] or { } a text with a question mark needs quotes" if "'?'" in error.problem else ""
        raise ConfigError(f"{where}{line}: {error.problem}{hint}") from error
    if root is None:
        raise ConfigError(f"{where}: the file is empty; expected the key 'attributes'")
    reader = _Reader(where)
    top = reader.mapping(root, "", allowed=("attributes", "derived"))
    if "attributes" not in top:
        raise reader.error(root, "", "the key 'attributes' is missing")
    asked = tuple(reader.attribute(key, node) for key, node in reader.mapping(top["attributes"], "attributes").items())
    derived = []
    if "derived" in top:
        for key, node in reader.mapping(top["derived"], "derived").items():
            rule = reader.string(node, f"derived.{key}")
            build = functools.partial(DerivedAttribute, name=key, rule=rule)
            derived.append(reader.checked(node, f"derived.{key}", build))
    question_set = QuestionSet(name=name, asked=asked, derived=tuple(derived))
    reader.checked(root, "attributes", lambda: question_set.attributes)
    return question_set


class _Reader:
    """Reads composed YAML nodes, so that every error can name its line. Scalars stay text: `no` is not False here."""

    def __init__(self, where: str) -> None:
        self._where = where

    def error(self, node: yaml.Node, key: str, problem: str) -> ConfigError:
        prefix = f"{key}: " if key else ""
        return ConfigError(f"{self._where} line {node.start_mark.line + 1}, {prefix}{problem}")

    def checked(self, node: yaml.Node, key: str, build: Callable[[], _T]) -> _T:
        try:
            return build()
        except ConfigError as error:
            raise self.error(node, key, str(error)) from error

    def mapping(self, node: yaml.Node, key: str, allowed: Sequence[str] | None = None) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode) or not node.value:
            raise self.error(node, key, "expected 'key: value' lines below it")
        found: dict[str, yaml.Node] = {}
        for name_node, value in node.value:
            name = name_node.value
            if not isinstance(name, str):
                raise self.error(name_node, key, "a key must be plain text")
            if name in found:
                raise self.error(name_node, key, f"the key {name!r} stands twice")
            if allowed is not None and name not in allowed:
                near = difflib.get_close_matches(name, allowed, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; allowed are {', '.join(allowed)}"
                raise self.error(name_node, f"{key}.{name}".lstrip("."), f"unknown key{hint}")
            found[name] = value
        return found

    def string(self, node: yaml.Node, key: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
            raise self.error(node, key, "expected text")
        return str(node.value.strip())

    def items(self, node: yaml.Node, key: str) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise self.error(node, key, "expected a list with at least one entry")
        return list(node.value)

    def probability(self, node: yaml.Node, key: str) -> float:
        try:
            value = float(self.string(node, key))
        except ValueError as error:
            raise self.error(node, key, f"expected a number between 0 and 1, found {node.value!r}") from error
        if not 0.0 <= value <= 1.0:
            raise self.error(node, key, f"expected a number between 0 and 1, found {node.value}")
        return value

    def attribute(self, name: str, node: yaml.Node) -> AskedAttribute:
        key = f"attributes.{name}"
        fields = self.mapping(node, key, allowed=("questions", "prompts", "answers", "unknown", "threshold", "abstain"))
        if "questions" not in fields:
            raise self.error(node, key, "the key 'questions' is missing")
        classes, answers = self._answers(fields.get("answers"), f"{key}.answers")
        binary = classes == ("no", "yes")
        asked = [
            self._question(each, f"{key}.questions") for each in self.items(fields["questions"], f"{key}.questions")
        ]
        if not binary and any(inverted for _, inverted in asked):
            raise self.error(node, key, "'inverted' is allowed for yes/no questions only")
        if not binary and "threshold" in fields:
            raise self.error(fields["threshold"], f"{key}.threshold", "only a yes/no attribute has a threshold")
        threshold = self.probability(fields["threshold"], f"{key}.threshold") if "threshold" in fields else 0.5
        attribute = self.checked(
            node, key, lambda: Attribute(name=name, kind="binary" if binary else "multiclass", classes=classes)
        )
        return AskedAttribute(
            attribute=attribute,
            questions=tuple(text for text, _ in asked),
            inverted=tuple(inverted for _, inverted in asked),
            answers=answers,
            threshold=threshold,
            abstain=self._abstain(fields.get("abstain"), f"{key}.abstain", binary=binary, threshold=threshold),
            prompts=self._prompts(fields.get("prompts"), f"{key}.prompts", classes),
            unknown=self._unknown(fields.get("unknown"), f"{key}.unknown", answers),
        )

    def _prompts(self, node: yaml.Node | None, key: str, classes: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        if node is None:
            return ()
        found = self.mapping(node, key, allowed=classes)
        missing = [name for name in classes if name not in found]
        if missing:
            raise self.error(node, key, f"expected prompts for each of {', '.join(classes)}; {missing[0]} has none")
        return tuple(
            tuple(self.string(each, f"{key}.{name}") for each in self.items(found[name], f"{key}.{name}"))
            for name in classes
        )

    def _unknown(self, node: yaml.Node | None, key: str, answers: tuple[str, ...]) -> tuple[str, ...]:
        if node is None:
            return ()
        found = tuple(self.string(each, key) for each in self.items(node, key))
        if len({*answers, *found}) != len(answers) + len(found):
            raise self.error(node, key, f"expected texts that differ from each other and from {list(answers)}")
        return found

    def _question(self, node: yaml.Node, key: str) -> tuple[str, bool]:
        if isinstance(node, yaml.ScalarNode):
            return self.string(node, key), False
        fields = self.mapping(node, key, allowed=("text", "inverted"))
        if "text" not in fields:
            raise self.error(node, key, "the key 'text' is missing")
        inverted = self.string(fields["inverted"], f"{key}.inverted") if "inverted" in fields else "false"
        if inverted not in ("true", "false"):
            raise self.error(node, f"{key}.inverted", f"expected true or false, found {inverted!r}")
        return self.string(fields["text"], f"{key}.text"), inverted == "true"

    def _answers(self, node: yaml.Node | None, key: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if node is None:
            return ("no", "yes"), ("no", "yes")
        if isinstance(node, yaml.MappingNode):
            texts = {name: self.string(value, f"{key}.{name}") for name, value in self.mapping(node, key).items()}
        else:
            found = [self.string(each, key) for each in self.items(node, key)]
            texts = dict(zip(found, found, strict=True))
            if len(texts) != len(found):
                raise self.error(node, key, f"an answer stands twice in {found}")
        # `[Yes, No]` also means yes/no: the model's vocabulary has no capitals.
        folded = {name.lower(): text for name, text in texts.items()}
        if set(folded) == {"no", "yes"} and len(folded) == len(texts):
            texts = {"no": folded["no"], "yes": folded["yes"]}
        if len(texts) < 2 or len(set(texts.values())) != len(texts):
            raise self.error(node, key, "expected at least two different answers")
        return tuple(texts), tuple(texts.values())

    def _abstain(
        self, node: yaml.Node | None, key: str, *, binary: bool, threshold: float
    ) -> tuple[float, float] | None:
        if node is None:
            return None
        if not binary:
            return self.probability(node, key), 1.0
        bounds = [self.probability(each, key) for each in self.items(node, key)]
        if len(bounds) != 2 or not bounds[0] <= threshold <= bounds[1]:
            raise self.error(node, key, f"expected [low, high] around the threshold {threshold}, found {bounds}")
        return bounds[0], bounds[1]
