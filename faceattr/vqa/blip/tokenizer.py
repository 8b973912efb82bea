"""A checkpoint's BERT tokenizer over the `tokenizers` package: the same ids as transformers' `BertTokenizer`.

Like that class it takes the vocabulary and the added tokens from the files, and builds what happens to a text in front
of the vocabulary from tokenizer_config.json.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from faceattr.errors import ModelError
from faceattr.vqa.blip.network.architecture import BlipArchitecture

# Roles of special tokens and the tokens that have them unless tokenizer_config.json names others.
_SPECIAL = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
# Roles without a default, and lists of further tokens; the key changed its name with transformers 5.
_MORE_SPECIAL = ("bos_token", "eos_token")
_LISTS = ("additional_special_tokens", "extra_special_tokens")


class BertWordPiece:
    """Lower-cased word pieces, framed by [CLS] and [SEP]. Methods have the names that `BertTokenizer` gives them.

    Attributes:
        unk_token_id: id of what the vocabulary does not know.
        sep_token_id: id of [SEP].
    """

    def __init__(self, vocabulary: Mapping[str, int], *, settings: Mapping[str, Any], added: list[AddedToken]) -> None:
        """Builds the tokenizer.

        Args:
            vocabulary: token -> id.
            settings: content of tokenizer_config.json.
            added: tokens beyond the vocabulary, in the order of their ids.
        """
        special = {role: _content(settings.get(role) or default) for role, default in _SPECIAL.items()}
        self._tokenizer = Tokenizer(WordPiece(dict(vocabulary), unk_token=special["unk_token"]))
        self._tokenizer.normalizer = BertNormalizer(
            clean_text=True,
            handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
            strip_accents=settings.get("strip_accents"),
            lowercase=settings.get("do_lower_case", True),
        )
        self._tokenizer.pre_tokenizer = BertPreTokenizer()
        self._tokenizer.add_tokens(added)
        self._tokenizer.add_special_tokens([*special.values(), *_more_special(settings)])
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        ids = {role: vocabulary[token] for role, token in special.items()}
        self._tokenizer.post_processor = TemplateProcessing(
            single=f"{special['cls_token']} $A {special['sep_token']}",
            special_tokens=[(special[role], ids[role]) for role in ("cls_token", "sep_token")],
        )
        self.sep_token_id = ids["sep_token"]
        self.unk_token_id = ids["unk_token"]

    def __len__(self) -> int:
        """Returns the number of tokens, added ones included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Returns the token ids of a text, with [CLS] and [SEP] around them if `add_special_tokens`."""
        return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    def convert_tokens_to_ids(self, token: str) -> int:
        """Returns the id of a token, `unk_token_id` if there is none."""
        token_id = self._tokenizer.token_to_id(token)
        return self.unk_token_id if token_id is None else int(token_id)


def load_tokenizer(folder: Path, architecture: BlipArchitecture) -> BertWordPiece:
    """Builds the tokenizer of a checkpoint from tokenizer.json or vocab.txt.

    Raises:
        ModelError: there is none, it cannot be read, or it does not fit the model.
    """
    path, vocabulary_path = folder / "tokenizer.json", folder / "vocab.txt"
    if not path.is_file() and not vocabulary_path.is_file():
        raise ModelError(f"{folder}: expected the tokenizer's tokenizer.json or vocab.txt, found neither")
    try:
        settings = _read_json(folder / "tokenizer_config.json")
        if path.is_file():
            content = _read_json(path)
            vocabulary = content["model"]["vocab"]
            added = [_added(entry) for entry in sorted(content["added_tokens"], key=lambda entry: entry["id"])]
        else:
            lines = vocabulary_path.read_text(encoding="utf-8").splitlines()
            vocabulary = {token: token_id for token_id, token in enumerate(lines)}
            extra = _read_json(folder / "added_tokens.json")
            added = [AddedToken(token, normalized=False) for token in sorted(extra, key=lambda token: extra[token])]
        settings = _read_json(folder / "special_tokens_map.json") | settings
        tokenizer = BertWordPiece(vocabulary, settings=settings, added=added)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{folder}: the tokenizer cannot be loaded: {type(error).__name__}: {error}") from error
    _check(tokenizer, architecture, folder)
    return tokenizer


def _check(tokenizer: BertWordPiece, architecture: BlipArchitecture, folder: Path) -> None:
    """Raises ModelError unless the tokenizer has the ids of the model."""
    if len(tokenizer) > architecture.vocabulary:
        raise ModelError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens, the model embeds {architecture.vocabulary}; "
            "they are not from the same checkpoint"
        )
    if tokenizer.sep_token_id != architecture.sep_token_id:
        raise ModelError(
            f"{folder}: [SEP] is token {tokenizer.sep_token_id} in the tokenizer and {architecture.sep_token_id} in "
            "the model's text_config.sep_token_id; answers could not end"
        )
    if not 0 <= architecture.dec_token_id < architecture.vocabulary:
        raise ModelError(
            f"{folder}: text_config.bos_token_id is {architecture.dec_token_id}, the model embeds "
            f"{architecture.vocabulary} tokens; it has to be the id of [DEC], from which answers start"
        )


def _read_json(path: Path) -> dict[str, Any]:
    """Returns the content of a JSON object, {} if there is no such file."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _more_special(settings: Mapping[str, Any]) -> Iterator[str]:
    for role in _MORE_SPECIAL:
        if settings.get(role):
            yield _content(settings[role])
    for name in _LISTS:
        tokens = settings.get(name) or []
        yield from map(_content, tokens.values() if isinstance(tokens, Mapping) else tokens)


def _content(token: Any) -> str:
    """Returns a token's text; older files describe a token by an object."""
    return str(token["content"] if isinstance(token, Mapping) else token)


def _added(entry: Mapping[str, Any]) -> AddedToken:
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return AddedToken(entry["content"], **{name: bool(entry.get(name, False)) for name in flags})
