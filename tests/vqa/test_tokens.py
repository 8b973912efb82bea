import pytest

from faceattr.errors import ConfigError
from faceattr.vqa.blip.tokens import TokenizedQuestion, tokenize_questions
from faceattr.vqa.questions import VqaQuestion, compute_answer_slices


def tokenize(checkpoint, text, *answers, start="cls"):
    questions = [VqaQuestion(text, answers)]
    return tokenize_questions(checkpoint.tokenizer, questions, question_start=start, max_positions=40)[0]


def ids(checkpoint, *tokens):
    return tuple(map(checkpoint.tokenizer.convert_tokens_to_ids, tokens))


def test_by_hand(checkpoint):
    tokenized = tokenize(checkpoint, "Is there a hat?", "yes", "light reddish")
    assert tokenized == TokenizedQuestion(
        token_ids=ids(checkpoint, "[CLS]", "is", "there", "a", "hat", "?", "[SEP]"),
        answers=(ids(checkpoint, "yes", "[SEP]"), ids(checkpoint, "light", "red", "##dish", "[SEP]")),
    )


def test_enc_takes_the_place_of_cls(checkpoint):
    enc = tokenize(checkpoint, "a hat ?", "yes", start="enc").token_ids
    cls = tokenize(checkpoint, "a hat ?", "yes", start="cls").token_ids
    assert enc[0] == ids(checkpoint, "[ENC]")[0] != cls[0]
    assert enc[1:] == cls[1:]


def test_slices():
    questions = [VqaQuestion("a", ("b",)), VqaQuestion("c", ("d", "e", "f"))]
    assert compute_answer_slices(questions) == (slice(0, 1), slice(1, 4))


@pytest.mark.parametrize(
    ("text", "answers", "message"),
    [
        (" ", ("yes",), "is empty"),
        ("a hat ?", (), "no answers"),
        ("a hat ?", ("yes", " "), "the answer is empty"),
        ("a hat ?", ("yes", "perhaps"), "does not know it"),
        ("a hat ?", ("yes", "no", "Yes"), "'yes' and 'Yes' are the same to the model"),
        ("wo ist er", ("yes",), "knows none of its words"),
        ("hat " * 39, ("yes",), "has 41 tokens, the model takes 40"),
        ("a hat ?", ("hat " * 40,), "40 tokens, the model can say 39"),
    ],
)
def test_refusals(checkpoint, text, answers, message):
    with pytest.raises(ConfigError, match=message):
        tokenize(checkpoint, text, *answers)


def test_the_longest_texts_that_fit(checkpoint):
    tokenized = tokenize(checkpoint, "hat " * 38, "hat " * 39)
    assert len(tokenized.token_ids) == 40
    assert len(tokenized.answers[0]) == 40


def test_no_questions(checkpoint):
    with pytest.raises(ConfigError, match="at least one question"):
        tokenize_questions(checkpoint.tokenizer, [], question_start="cls", max_positions=40)


def test_enc_must_exist(checkpoint):
    class WithoutEnc:
        """The tokenizer of a checkpoint whose vocabulary lacks [ENC]."""

        unk_token_id = checkpoint.tokenizer.unk_token_id

        def encode(self, text, **options):
            return checkpoint.tokenizer.encode(text, **options)

        def convert_tokens_to_ids(self, token):
            return self.unk_token_id

    with pytest.raises(ConfigError, match=r"no \[ENC\] token"):
        tokenize_questions(WithoutEnc(), [VqaQuestion("a hat ?", ("yes",))], question_start="enc", max_positions=40)
