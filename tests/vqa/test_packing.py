import pytest
import torch

from faceattr.vqa.blip.network.sequence import UNSEEN, pack, plan_packs
from faceattr.vqa.blip.tokens import TokenizedQuestion

DEC, SEP, YES, NO, DARK, RED, BROWN = 90, 3, 10, 11, 12, 13, 14
HAT = TokenizedQuestion(token_ids=(2, 5, 3), answers=((YES, SEP), (NO, SEP)))
HAIR = TokenizedQuestion(token_ids=(2, 6, 7, 3), answers=((DARK, SEP), (DARK, RED, SEP), (DARK, BROWN, SEP)))


def seen(mask):
    """Additive mask -> rows of the columns that are seen, as text."""
    assert set(mask.unique().tolist()) <= {0.0, UNSEEN}
    return ["".join("x" if value == 0 else "." for value in row) for row in mask.tolist()]


def test_layout_by_hand():
    packed = pack([HAT, HAIR], dec_token_id=DEC)
    assert packed.question_ids.tolist() == [2, 5, 3, 2, 6, 7, 3]
    assert packed.question_positions.tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert seen(packed.question_mask) == ["xxx....", "xxx....", "xxx...."] + ["...xxxx"] * 4
    # Question 0: DEC yes no; question 1: DEC dark red brown, of which `dark` is shared by three answers.
    assert packed.node_ids.tolist() == [DEC, YES, NO, DEC, DARK, RED, BROWN]
    assert packed.node_positions.tolist() == [0, 1, 1, 0, 1, 2, 2]
    assert seen(packed.node_mask) == [
        "x......",
        "xx.....",
        "x.x....",
        "...x...",
        "...xx..",
        "...xxx.",
        "...xx.x",
    ]
    assert seen(packed.node_question_mask) == ["xxx...."] * 3 + ["...xxxx"] * 4
    assert packed.answer_lengths.tolist() == [2, 2, 2, 3, 3]
    assert packed.answer_nodes.tolist() == [[0, 1, 0], [0, 2, 0], [3, 4, 0], [3, 4, 5], [3, 4, 6]]
    assert packed.answer_tokens.tolist() == [
        [YES, SEP, 0],
        [NO, SEP, 0],
        [DARK, SEP, 0],
        [DARK, RED, SEP],
        [DARK, BROWN, SEP],
    ]


def test_every_node_predicts_something():
    packed = pack([HAT, HAIR], dec_token_id=DEC)
    steps = torch.arange(packed.answer_nodes.shape[1]) < packed.answer_lengths[:, None]
    assert packed.answer_nodes[steps].unique().tolist() == list(range(len(packed.node_ids)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_unseen_weighs_exactly_nothing(dtype):
    packed = pack([HAT, HAIR], dec_token_id=DEC).to(torch.device("cpu"), dtype)
    assert packed.question_mask.dtype == dtype
    assert packed.question_ids.dtype == torch.int64
    # Even against scores that favour the unseen tokens as strongly as half precision can say.
    scores = torch.full((7, 7), -1000.0, dtype=dtype)
    scores[packed.question_mask != 0] = 1000.0
    weights = (scores + packed.question_mask).softmax(dim=-1)
    assert (weights[packed.question_mask != 0] == 0).all()
    assert weights.isfinite().all()


def test_packs_are_filled_in_order():
    # HAT needs 3 question tokens and 3 nodes, HAIR 4 and 4.
    assert plan_packs([HAT, HAIR, HAT], max_tokens=100) == [[HAT, HAIR, HAT]]
    assert plan_packs([HAT, HAIR, HAT], max_tokens=7) == [[HAT, HAIR], [HAT]]
    assert plan_packs([HAT, HAIR, HAT], max_tokens=4) == [[HAT], [HAIR], [HAT]]


def test_answers_that_do_not_fit_follow_in_the_next_pack():
    many = TokenizedQuestion(token_ids=(2, 5, 3), answers=tuple((token, SEP) for token in range(20, 27)))
    packs = plan_packs([HAT, many], max_tokens=5)
    assert [[piece.token_ids for piece in pieces] for pieces in packs] == [[HAT.token_ids]] + [[many.token_ids]] * 2
    assert [len(pieces[0].answers) for pieces in packs] == [2, 4, 3]
    assert packs[1][0].answers + packs[2][0].answers == many.answers


def test_one_text_longer_than_a_pack_has_a_pack_of_its_own():
    assert plan_packs([HAT, HAIR], max_tokens=2) == [
        [TokenizedQuestion(HAT.token_ids, HAT.answers[:1])],
        [TokenizedQuestion(HAT.token_ids, HAT.answers[1:])],
        [TokenizedQuestion(HAIR.token_ids, HAIR.answers[:1])],
        [TokenizedQuestion(HAIR.token_ids, HAIR.answers[1:2])],
        [TokenizedQuestion(HAIR.token_ids, HAIR.answers[2:])],
    ]
