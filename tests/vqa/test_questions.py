"""Answer likelihoods to scores and labels, with numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from faceattr.attributes import Attribute, DerivedAttribute
from faceattr.vqa.questions import AskedAttribute, QuestionSet, VqaQuestion


def asked(name="hat", questions=("is there a hat?",), **values):
    values = {"answers": ("no", "yes"), "inverted": (False,) * len(questions)} | values
    return AskedAttribute(attribute=Attribute(name=name), questions=questions, **values)


def asked_hair(**values):
    return AskedAttribute(
        attribute=Attribute(name="hair", kind="multiclass", classes=("black", "blond", "none")),
        questions=("what color is the hair?",),
        answers=("black", "blonde", "bald"),
        inverted=(False,),
        **values,
    )


def label(attributes, *rows):
    """Labels of rows of probabilities."""
    question_set = QuestionSet(name="test", asked=tuple(attributes))
    return question_set.compute_labels(np.log(np.array(rows, np.float32)))


def test_one_question_is_normalised_over_its_answers():
    found = label([asked()], [0.06, 0.02])["hat"]
    assert found.score == pytest.approx([0.25])  # 0.02 / (0.06 + 0.02)
    assert found.mass == pytest.approx([0.08])
    assert found.label.tolist() == [0]
    assert found.unknown.tolist() == [False]
    assert (found.label.dtype, found.score.dtype, found.mass.dtype) == (np.int64, np.float32, np.float32)


def test_two_paraphrases_are_averaged_geometrically():
    # Normalised: (0.5, 0.5) and (0.1, 0.9). Geometric means sqrt(0.05) and sqrt(0.45), a ratio of 1 to 3.
    # Masses 0.4 and 0.1: sqrt(0.04) = 0.2.
    found = label([asked(questions=("one?", "two?"))], [0.2, 0.2, 0.01, 0.09])["hat"]
    assert found.score == pytest.approx([0.75])
    assert found.mass == pytest.approx([0.2])
    assert found.label.tolist() == [1]


def test_a_paraphrase_that_is_sure_outweighs_two_that_waver():
    # Odds for yes: 3/2, 3/2 and 1/999: their product is far below one, though two of three say yes.
    found = label([asked(questions=("a?", "b?", "c?"))], [0.4, 0.6, 0.4, 0.6, 0.999, 0.001])["hat"]
    assert found.label.tolist() == [0]
    # Cube root of 2.25 / 999 is 0.1311; as a probability 0.1311 / 1.1311.
    assert found.score == pytest.approx([0.1159], abs=5e-5)


def test_paraphrases_that_disagree_have_less_mass():
    two = asked(questions=("one?", "two?"))
    rows = np.log(np.array([[0.2, 0.2, 0.01, 0.09], [0.1, 0.3, 0.2, 0.6], [1.0, 1e-12, 1e-12, 1.0]], np.float32))
    plain = QuestionSet(name="test", asked=(two,)).compute_labels(rows)["hat"]
    weighed = QuestionSet(name="test", asked=(two,), weighs_agreement=True).compute_labels(rows)["hat"]
    # P(yes) of the two: 0.5 and 0.9, a deviation of 0.2; twice 0.75; 0 and 1.
    assert weighed.mass == pytest.approx(plain.mass * [0.6, 1.0, 0.0], abs=1e-6)
    assert weighed.mass[0] == pytest.approx(0.2 * 0.6)
    for name in ("label", "score", "unknown"):
        assert getattr(weighed, name).tolist() == getattr(plain, name).tolist()
    assert weighed.mass.dtype == np.float32


def test_the_deviation_of_several_classes_is_that_of_their_probabilities():
    hair = replace(asked_hair(), questions=("one?", "two?"), inverted=(False, False))
    rows = np.log(np.array([[0.6, 0.2, 0.2, 0.2, 0.6, 0.2]], np.float32))
    mass = QuestionSet(name="test", asked=(hair,), weighs_agreement=True).compute_labels(rows)["hair"].mass
    # Each of the first two classes is 0.2 from its mean: variance (0.04 + 0.04) / 2, deviation 0.2.
    assert mass == pytest.approx([0.6])


def test_agreement_is_part_of_what_decides_a_label_if_chosen():
    plain = QuestionSet(name="test", asked=(asked(),))
    assert "agreement" not in plain.to_json()
    assert replace(plain, weighs_agreement=True).to_json() == plain.to_json() | {"agreement": True}


def test_an_inverted_question_is_asked_with_its_answers_reversed():
    beard = asked("beard", ("is there a beard?", "is the chin shaved?"), inverted=(False, True))
    assert beard.vqa_questions() == (
        VqaQuestion("is there a beard?", ("no", "yes")),
        VqaQuestion("is the chin shaved?", ("yes", "no")),
    )
    # "shaved? yes" 0.8, "shaved? no" 0.2: speaks against the beard. Alone: P(beard) = 0.2.
    alone = asked("beard", ("is the chin shaved?",), inverted=(True,))
    assert label([alone], [0.8, 0.2])["beard"].score == pytest.approx([0.2])
    # Both in agreement: odds of yes 1/4 and 1/4.
    assert label([beard], [0.8, 0.2, 0.8, 0.2])["beard"].score == pytest.approx([0.2])


def test_likelihoods_far_below_what_a_float_can_hold():
    question_set = QuestionSet(name="test", asked=(asked(),))
    found = question_set.compute_labels(np.array([[-1000.0, -1000.0 + np.log(3)]], np.float32))["hat"]
    assert found.score == pytest.approx([0.75], abs=1e-4)
    assert found.mass.tolist() == [0.0]


@pytest.mark.parametrize(
    ("p_yes", "threshold", "abstain", "expected"),
    [
        (0.5, 0.5, None, 1),  # from the threshold on
        (0.499, 0.5, None, 0),
        (0.25, 0.25, None, 1),
        (0.3, 0.25, None, 1),
        (0.5, 0.5, (0.25, 0.75), None),
        (0.25, 0.5, (0.25, 0.75), 0),  # the edges of the band are decided
        (0.75, 0.5, (0.25, 0.75), 1),
        (0.26, 0.5, (0.25, 0.75), None),
        (0.74, 0.5, (0.25, 0.75), None),
        (0.5, 0.5, (0.5, 0.75), 1),
        (0.5, 0.5, (0.25, 0.5), 1),
        (0.01, 0.5, None, 0),
    ],
)
def test_threshold_and_abstain_band(p_yes, threshold, abstain, expected):
    found = label([asked(threshold=threshold, abstain=abstain)], [1 - p_yes, p_yes])["hat"]
    assert (None if found.unknown[0] else found.label[0]) == expected
    assert found.score == pytest.approx([p_yes])


def test_a_multiclass_attribute_has_a_score_per_class():
    found = label([asked_hair()], [0.1, 0.2, 0.1], [0.3, 0.1, 0.1])["hair"]
    assert found.label.tolist() == [1, 0]
    assert found.score == pytest.approx(np.array([[0.25, 0.5, 0.25], [0.6, 0.2, 0.2]]))
    assert found.mass == pytest.approx([0.4, 0.5])
    assert found.unknown.tolist() == [False, False]


def test_a_multiclass_attribute_abstains_if_no_class_is_likely_enough():
    rows = [[0.49, 0.26, 0.25], [0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]
    found = label([asked_hair(abstain=(0.5, 1.0))], *rows)["hair"]
    assert found.unknown.tolist() == [True, False, False]
    assert found.label[1:].tolist() == [0, 2]


def test_each_attribute_reads_its_own_columns():
    attributes = [asked("hat", ("a?", "b?")), asked_hair(), asked("beard", ("c?",))]
    found = label(
        attributes, [0.9, 0.1, 0.9, 0.1, 0.2, 0.2, 0.6, 0.3, 0.7], [0.2, 0.8, 0.2, 0.8, 0.6, 0.2, 0.2, 0.8, 0.2]
    )
    assert list(found) == ["hat", "hair", "beard"]
    assert found["hat"].score == pytest.approx([0.1, 0.8])
    assert found["hair"].label.tolist() == [2, 0]
    assert found["beard"].score == pytest.approx([0.7, 0.2])


def test_no_images():
    question_set = QuestionSet(name="test", asked=(asked(), asked_hair()))
    found = question_set.compute_labels(np.empty((0, 5), np.float32))
    assert found["hat"].score.shape == (0,)
    assert found["hair"].score.shape == (0, 3)


def test_questions_stand_in_the_order_of_the_attributes():
    question_set = QuestionSet(name="test", asked=(asked("hat", ("a?", "b?")), asked_hair()))
    assert [question.text for question in question_set.vqa_questions()] == ["a?", "b?", "what color is the hair?"]
    assert question_set.vqa_questions()[2].answers == ("black", "blonde", "bald")


def test_the_plain_form_holds_all_that_decides_a_label():
    first = QuestionSet(
        name="test", asked=(asked(abstain=(0.4, 0.6)),), derived=(DerivedAttribute(name="d", rule="not hat"),)
    )
    assert first.to_json() == {
        "name": "test",
        "attributes": {
            "hat": {
                "kind": "binary",
                "classes": ["no", "yes"],
                "questions": ["is there a hat?"],
                "inverted": [False],
                "answers": ["no", "yes"],
                "threshold": 0.5,
                "abstain": [0.4, 0.6],
            }
        },
        "derived": {"d": "not hat"},
    }


SENSITIVE = [
    "what race is the person?",
    "is the person asian?",
    "Is the man Black?",
    "is this a white woman?",
    "is she white?",
    "what is the skin color?",
    "what is the skin-colour?",
    "what color is the skin?",
    "is the skin dark?",
    "what is the skin tone?",
    "is this a dark-skinned person?",
    "what is the person's ethnicity?",
    "what is the nationality of the person?",
    "which religion does the person have?",
    "is the woman wearing a hijab?",
    "is the man jewish?",
    "is he gay?",
    "what is the sexual orientation?",
    "is the person ill?",
    "does the person look healthy?",
    "is the woman pregnant?",
    "does the person have down syndrome?",
    "which political party does he like?",
    "is the person a criminal?",
]
HARMLESS = [
    "is the hat black?",
    "is the shirt white?",
    "does the person have black hair?",
    "has the woman dark hair?",
    "is the man black-haired?",
    "is the person wearing a black hat?",
    "is the background dark?",
    "does the person wear braces?",
    "is there a trace of a beard?",
    "is the hair straight?",
    "is this a still picture?",
    "is the picture an illustration?",
    "is the person happy or sad?",
    "is the face embraced by hands?",
    "is the person wearing a necklace?",
    "is the man old?",
]


@pytest.mark.parametrize("text", SENSITIVE)
def test_a_sensitive_question_is_noticed(text):
    assert QuestionSet(name="t", asked=(asked(questions=("is there a hat?", text)),)).sensitive_questions() == (text,)


@pytest.mark.parametrize("text", HARMLESS)
def test_a_harmless_question_is_not(text):
    assert QuestionSet(name="t", asked=(asked(questions=(text,)),)).sensitive_questions() == ()


def test_names_classes_answers_and_rules_are_looked_at_too():
    origin = AskedAttribute(
        attribute=Attribute(name="origin", kind="multiclass", classes=("caucasian", "other")),
        questions=("where is the person from?",),
        answers=("europe", "african country"),
        inverted=(False,),
    )
    rule = DerivedAttribute(name="is_muslim", rule="skin_color")
    question_set = QuestionSet(name="t", asked=(asked("skin_color"), origin), derived=(rule,))
    assert question_set.sensitive_questions() == ("skin color", "caucasian", "african country", "is muslim")


def test_prompts_enter_the_plain_form_only_for_models_that_read_them():
    plain = QuestionSet(name="t", asked=(asked(),))
    written = replace(plain, asked=(replace(plain.asked[0], prompts=(("a bare head",), ("a hat",))),))
    assert written.to_json() == plain.to_json()
    by_prompts = replace(written, by_prompts=True)
    found = by_prompts.to_json()["attributes"][written.asked[0].attribute.name]
    assert found["prompts"] == [["a bare head"], ["a hat"]]
    assert QuestionSet.from_json(by_prompts.to_json()) == by_prompts
    assert written.wordings(written.asked[0]) == written.asked[0].questions
    assert by_prompts.wordings(written.asked[0]) == ("no: a bare head", "yes: a hat")


def test_with_prompts_an_attribute_has_one_likelihood_for_each_answer():
    hat = replace(asked(questions=("a?", "b?")), prompts=(("a bare head",), ("a hat",)))
    question_set = QuestionSet(name="t", asked=(hat, asked_hair()), by_prompts=True)
    likelihoods = np.log(np.float32([[0.1, 0.3, 0.2, 0.1, 0.1]]))
    labels = question_set.compute_labels(likelihoods)
    np.testing.assert_allclose(labels[hat.attribute.name].score, [0.75], rtol=1e-6)
    np.testing.assert_allclose(labels[hat.attribute.name].mass, [0.4], rtol=1e-6)
    np.testing.assert_allclose(labels["hair"].score, [[0.5, 0.25, 0.25]], rtol=1e-6)


def test_a_sensitive_prompt_is_noticed():
    hat = replace(asked(), prompts=(("a bare head",), ("a person with a hijab",)))
    assert QuestionSet(name="t", asked=(hat,)).sensitive_questions() == ("a person with a hijab",)


def test_unknown_answers_are_asked_last_also_of_inverted_questions():
    hat = asked("hat", ("a hat?", "a bare head?"), inverted=(False, True), unknown=("cannot tell", "not visible"))
    assert [each.answers for each in hat.vqa_questions()] == [
        ("no", "yes", "cannot tell", "not visible"),
        ("yes", "no", "cannot tell", "not visible"),
    ]
    assert [prompts[0] for prompts in hat.answer_prompts()] == [
        "a hat? no",
        "a hat? yes",
        "a hat? cannot tell",
        "a hat? not visible",
    ]
    given = replace(hat, prompts=(("a bare head",), ("a hat",)))
    assert given.answer_prompts() == (("a bare head",), ("a hat",), ("cannot tell",), ("not visible",))


def test_unknown_answers_win_together_and_change_neither_score_nor_mass():
    hat = asked(unknown=("cannot tell", "not visible"))
    rows = [[0.1, 0.3, 0.2, 0.2], [0.1, 0.3, 0.2, 0.05], [0.3, 0.1, 0.0001, 0.31], [0.1, 0.3, 0.1, 0.2]]
    found = label([hat], *rows)["hat"]
    assert found.unanswered.tolist() == [True, False, True, False]  # 0.4, 0.25, 0.3101 and 0.3; a tie is answered
    assert found.unknown.tolist() == [True, False, True, False]
    assert found.score == pytest.approx([0.75, 0.75, 0.25, 0.75])
    assert found.mass == pytest.approx([0.4, 0.4, 0.4, 0.4])


def test_unknown_answers_are_averaged_over_paraphrases_as_classes_are():
    hat = asked("hat", ("one?", "two?"), unknown=("cannot tell",))
    # Products over the paraphrases: no 0.08 and 0.02, yes 0.01 and 0.04, unknown 0.09 and 0.03.
    found = label([hat], [0.2, 0.1, 0.3, 0.4, 0.1, 0.3], [0.1, 0.2, 0.3, 0.2, 0.2, 0.1])["hat"]
    assert found.unanswered.tolist() == [True, False]


def test_unknown_and_the_abstain_band_both_leave_no_label():
    hair = asked_hair(abstain=(0.5, 1.0), unknown=("cannot tell",))
    rows = [[0.2, 0.2, 0.2, 0.1], [0.1, 0.1, 0.1, 0.6], [0.5, 0.1, 0.1, 0.3]]
    found = label([hair], *rows)["hair"]
    assert found.unknown.tolist() == [True, True, False]
    assert found.unanswered.tolist() == [False, True, False]


def test_unknown_answers_are_part_of_what_decides_a_label_if_given():
    plain = QuestionSet(name="test", asked=(asked(),))
    assert "unknown" not in plain.to_json()["attributes"]["hat"]
    some = QuestionSet(name="test", asked=(asked(unknown=("cannot tell",)),))
    assert some.to_json()["attributes"]["hat"]["unknown"] == ["cannot tell"]
    assert QuestionSet.from_json(some.to_json()) == some
    assert QuestionSet(name="test", asked=(asked(unknown=("her faith",)),)).sensitive_questions() == ("her faith",)


def test_unknown_answers_of_a_model_that_reads_prompts():
    hat = asked("hat", ("a hat?", "something on the head?"), unknown=("cannot tell",))
    questions = QuestionSet(name="test", asked=(hat,), by_prompts=True)
    found = questions.compute_labels(np.log(np.array([[0.1, 0.3, 0.6], [0.1, 0.5, 0.4]], np.float32)))["hat"]
    assert found.unanswered.tolist() == [True, False]
    assert found.score == pytest.approx([0.75, 5 / 6])
    assert questions.wordings(hat)[-1] == "unknown: something on the head? cannot tell"
    again = QuestionSet.from_json(questions.to_json())
    assert (again.by_prompts, again.asked[0].unknown) == (True, ("cannot tell",))
    assert len(again.asked[0].answer_prompts()) == 3
