"""Question sets as YAML: what ships loads, and what is wrong is refused with line and key."""

import pytest

from faceattr.errors import ConfigError
from faceattr.vqa.question_files import builtin_sets, load_question_set, parse_question_set


def parse(text):
    return parse_question_set(text, name="mine", where="mine.yaml")


def one(options, questions="['is there a hat?']"):
    """The asked attribute of a file with one attribute, which stands in line 2."""
    (asked,) = parse(f"attributes:\n  hat: {{questions: {questions}{options and ', ' + options}}}\n").asked
    return asked


def test_the_sets_that_ship():
    assert builtin_sets() == ("celeba4", "clear_face", "portrait")
    for name in builtin_sets():
        question_set = load_question_set(name)
        assert question_set.name == name
        assert question_set.sensitive_questions() == ()
        assert question_set.attributes.names == tuple(asked.attribute.name for asked in question_set.asked)
        assert all(len(set(asked.questions)) >= 2 for asked in question_set.asked)


def test_clear_face_says_what_it_says():
    question_set = load_question_set("clear_face")
    assert question_set.attributes.names == ("hat", "glasses", "facial_hair")
    assert [(rule.name, rule.rule) for rule in question_set.derived] == [
        ("label", "not (hat or glasses or facial_hair)")
    ]
    assert len(question_set.vqa_questions()) == 9


def test_celeba4_asks_about_the_shaved_chin_the_other_way_round():
    question_set = load_question_set("celeba4")
    assert question_set.attributes.names == ("eyeglasses", "mustache", "beard", "hat")
    assert question_set.asked[2].inverted == (False, False, True)


def test_portrait_maps_answers_to_classes():
    gender = load_question_set("portrait").asked[0]
    assert (gender.attribute.kind, gender.attribute.classes) == ("multiclass", ("male", "female"))
    assert gender.answers == ("man", "woman")


def test_a_file_with_everything(tmp_path):
    path = tmp_path / "hats.yaml"
    path.write_text(
        """
        attributes:
          hat:
            questions:
              - is there a hat?
              - {text: 'is the head bare?', inverted: true}
            threshold: 4e-1
            abstain: [0.3, 0.6]
          hair:
            questions: ['what color is the hair?']
            answers: [black, blond]
            abstain: 0.6
        derived:
          bare: not hat
        """,
        "utf-8",
    )
    question_set = load_question_set(str(path))
    hat, hair = question_set.asked
    assert question_set.name == "hats"
    assert (hat.questions, hat.inverted) == (("is there a hat?", "is the head bare?"), (False, True))
    assert (hat.attribute.kind, hat.answers, hat.threshold, hat.abstain) == ("binary", ("no", "yes"), 0.4, (0.3, 0.6))
    assert (hair.attribute.kind, hair.attribute.classes, hair.abstain) == ("multiclass", ("black", "blond"), (0.6, 1.0))
    assert [(rule.name, rule.rule) for rule in question_set.derived] == [("bare", "not hat")]


@pytest.mark.parametrize(
    ("answers", "kind", "classes", "texts"),
    [
        ("[no, yes]", "binary", ("no", "yes"), ("no", "yes")),  # texts, not False and True
        ("[yes, no]", "binary", ("no", "yes"), ("no", "yes")),
        ("{yes: hat, no: none}", "binary", ("no", "yes"), ("none", "hat")),
        ("[Yes, No]", "binary", ("no", "yes"), ("No", "Yes")),
        ("[off, on]", "multiclass", ("off", "on"), ("off", "on")),
        ("[1, 2]", "multiclass", ("1", "2"), ("1", "2")),
        ("{b: two words, a: one}", "multiclass", ("b", "a"), ("two words", "one")),
    ],
)
def test_answers_in_class_order(answers, kind, classes, texts):
    asked = one(f"answers: {answers}")
    assert (asked.attribute.kind, asked.attribute.classes, asked.answers) == (kind, classes, texts)


@pytest.mark.parametrize(
    ("options", "key", "problem"),
    [
        ("threshold: 1.5", "attributes.hat.threshold", "between 0 and 1, found 1.5"),
        ("threshold: -0.1", "attributes.hat.threshold", "between 0 and 1, found -0.1"),
        ("threshold: nan", "attributes.hat.threshold", "between 0 and 1, found nan"),
        ("threshold: high", "attributes.hat.threshold", "a number between 0 and 1, found 'high'"),
        ("threshold: [0.5]", "attributes.hat.threshold", "expected text"),
        ("threshhold: 0.5", "attributes.hat.threshhold", "unknown key; did you mean 'threshold'?"),
        (
            "zzz: 1",
            "attributes.hat.zzz",
            "unknown key; allowed are questions, prompts, answers, unknown",
        ),
        ("prompts: {no: [a]}", "attributes.hat.prompts", "expected prompts for each of no, yes; yes has none"),
        ("prompts: {no: [a], yes: []}", "attributes.hat.prompts.yes", "at least one entry"),
        ("prompts: {no: [a], yess: [b]}", "attributes.hat.prompts.yess", "did you mean 'yes'?"),
        ("prompts: [a, b]", "attributes.hat.prompts", "expected 'key: value' lines"),
        ("abstain: 0.5", "attributes.hat.abstain", "expected a list"),
        ("abstain: [0.6, 0.4]", "attributes.hat.abstain", "around the threshold 0.5, found [0.6, 0.4]"),
        ("abstain: [0.1, 0.2]", "attributes.hat.abstain", "around the threshold 0.5"),
        ("abstain: [0.4]", "attributes.hat.abstain", "expected [low, high]"),
        ("abstain: [0.4, 2]", "attributes.hat.abstain", "between 0 and 1, found 2"),
        ("answers: [yes]", "attributes.hat.answers", "at least two different answers"),
        ("answers: [a, a]", "attributes.hat.answers", "stands twice"),
        ("answers: {a: x, b: x}", "attributes.hat.answers", "at least two different answers"),
        ("answers: {a: x, a: y}", "attributes.hat.answers", "'a' stands twice"),
        ("answers: []", "attributes.hat.answers", "at least one entry"),
        ("answers: maybe", "attributes.hat.answers", "expected a list"),
        ("answers: ['', x]", "attributes.hat.answers", "expected text"),
        ("answers: [a, b], threshold: 0.5", "attributes.hat.threshold", "only a yes/no attribute"),
        ("answers: [a, b], abstain: [0.4, 0.6]", "attributes.hat.abstain", "expected text"),
        ("questions: [again]", "attributes.hat", "'questions' stands twice"),
    ],
)
def test_a_wrong_option_names_line_and_key(options, key, problem):
    with pytest.raises(ConfigError) as error:
        one(options)
    assert str(error.value).startswith(f"mine.yaml line 2, {key}: ")
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("questions", "options", "key", "problem"),
    [
        ("[]", "", "attributes.hat.questions", "at least one entry"),
        ("is it", "", "attributes.hat.questions", "expected a list"),
        ("['']", "", "attributes.hat.questions", "expected text"),
        ("[{inverted: true}]", "", "attributes.hat.questions", "the key 'text' is missing"),
        ("[{text: a, invert: true}]", "", "attributes.hat.questions.invert", "did you mean 'inverted'?"),
        ("[{text: a, inverted: maybe}]", "", "attributes.hat.questions.inverted", "expected true or false"),
        ("[[a]]", "", "attributes.hat.questions", "expected 'key: value' lines"),
        ("[{text: a, inverted: true}]", "answers: [a, b]", "attributes.hat", "yes/no questions only"),
    ],
)
def test_a_wrong_question_names_line_and_key(questions, options, key, problem):
    with pytest.raises(ConfigError) as error:
        one(options, questions)
    assert str(error.value).startswith(f"mine.yaml line 2, {key}: ")
    assert problem in str(error.value)


GOOD = "attributes:\n  hat:\n    questions: [is there a hat]\n"


@pytest.mark.parametrize(
    ("text", "start", "problem"),
    [
        ("", "mine.yaml: ", "the file is empty"),
        ("# only a comment", "mine.yaml: ", "the file is empty"),
        ("just text", "mine.yaml line 1, ", "expected 'key: value' lines"),
        ("derived:\n  a: b\n", "mine.yaml line 1, ", "the key 'attributes' is missing"),
        ("attribute:\n  hat: {}\n", "mine.yaml line 1, attribute: ", "did you mean 'attributes'?"),
        ("attributes:\n", "mine.yaml line 1, attributes: ", "expected 'key: value' lines"),
        ("attributes:\n  hat:\n", "mine.yaml line 2, attributes.hat: ", "expected 'key: value' lines"),
        ("attributes:\n  hat: {answers: [a, b]}\n", "mine.yaml line 2, attributes.hat: ", "'questions' is missing"),
        ("attributes:\n\n  Hat: {questions: [a]}\n", "mine.yaml line 3, attributes.Hat: ", "lower-case letters"),
        ("attributes:\n\n  row: {questions: [a]}\n", "mine.yaml line 3, attributes.row: ", "used by the tables"),
        (f"{GOOD}  hat:\n    questions: [b]\n", "mine.yaml line 4, attributes: ", "the key 'hat' stands twice"),
        (f"{GOOD}derived:\n  bare: not\n", "mine.yaml line 5, derived.bare: ", "cannot be read"),
        (f"{GOOD}derived:\n  bare: [hat]\n", "mine.yaml line 5, derived.bare: ", "expected text"),
        (f"{GOOD}derived:\n  bare: not glasses\n", "mine.yaml line 1, attributes: ", "reads ['glasses']"),
        (f"{GOOD}derived:\n  hat: not hat\n", "mine.yaml line 1, attributes: ", "names repeat: ['hat']"),
        (f"{GOOD}  hat2: [1\n", "mine.yaml line 5: ", "not valid YAML"),
        (f"{GOOD}---\na: b\n", "mine.yaml line 4: ", "not valid YAML"),
        ("attributes:\n  ? [a, b]\n  : c\n", "mine.yaml line 2, attributes: ", "a key must be plain text"),
    ],
)
def test_a_wrong_file_names_line_and_key(text, start, problem):
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert str(error.value).startswith(start)
    assert problem in str(error.value)


@pytest.mark.parametrize("name", ["clearface", "sets/hats.txt", ""])
def test_a_name_that_is_neither_a_set_nor_a_file(name):
    with pytest.raises(ConfigError, match=r"expected one of celeba4, clear_face, portrait, or a \.yaml file"):
        load_question_set(name)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.yaml' cannot be read: No such file"):
        load_question_set(str(tmp_path / "nothing.yaml"))
    (tmp_path / "latin1.yaml").write_bytes(b"attributes:\n  # \xe4\n")
    with pytest.raises(ConfigError, match=r"latin1\.yaml' is not UTF-8"):
        load_question_set(str(tmp_path / "latin1.yaml"))


def test_prompts_are_read_in_class_order():
    hat = one("prompts: {yes: [a hat, a cap], no: [a bare head]}")
    assert hat.answer_prompts() == (("a bare head",), ("a hat", "a cap"))


def test_prompts_are_made_from_the_questions_where_there_are_none():
    text = "attributes: {bald: {questions: ['bald?', {text: 'hairy?', inverted: true}]}}"
    bald = parse_question_set(text, name="mine", where="mine.yaml").asked[0]
    assert bald.answer_prompts() == (("bald? no", "hairy? yes"), ("bald? yes", "hairy? no"))


@pytest.mark.parametrize("name", builtin_sets())
def test_builtin_sets_have_different_prompts_for_each_answer(name):
    for asked in load_question_set(name).asked:
        prompts = [prompt for each in asked.prompts for prompt in each]
        assert len(asked.prompts) == len(asked.answers)
        assert len(set(prompts)) == len(prompts)


def test_unknown_answers():
    assert one("").unknown == ()
    assert one("unknown: [cannot tell, not visible]").unknown == ("cannot tell", "not visible")
    assert one("answers: {short: short hair, long: long hair}, unknown: [short]").unknown == ("short",)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("unknown: cannot tell", "attributes.hat.unknown: expected a list with at least one entry"),
        ("unknown: []", "attributes.hat.unknown: expected a list with at least one entry"),
        ("unknown: [no]", r"attributes.hat.unknown: expected texts that differ .* and from \['no', 'yes'\]"),
        ("unknown: [a, a]", "attributes.hat.unknown: expected texts that differ"),
    ],
)
def test_unknown_answers_that_are_refused(options, problem):
    with pytest.raises(ConfigError, match=f"mine.yaml line 2, {problem}"):
        one(options)
