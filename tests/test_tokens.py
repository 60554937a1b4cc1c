"""Tokens: text taken as it stands, offsets in characters, and the word of each token."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from atlas.errors import BadInput
from atlas.ingest.text.tokens import (
    TokenStream,
    align,
    tokenize_documents,
    tokenize_ids,
    tokenizer_hash,
    vocabulary_texts,
)
from atlas.ingest.text.words import word_spans

REAL = ["stories260k", "llama2xs-279k", "babyllama-105", "tensorforge-gpt1-char"]


def byte_level(**options) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE(**options))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.post_processor = processors.ByteLevel(trim_offsets=True)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    core.train_from_iterator(["the cat and the dog 👍 the end"] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>")


def word_piece() -> PreTrainedTokenizerFast:
    pieces = ["[UNK]", "[CLS]", "[SEP]", "the", "sing", "##ing", "##s", ".", "a", "caf", "##e"]
    core = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    core.decoder = decoders.WordPiece(prefix="##")
    return PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


GPT2_LIKE, WORD_PIECE = byte_level(), word_piece()


@pytest.fixture(scope="module", params=REAL)
def real(request, shared_data):
    return AutoTokenizer.from_pretrained(
        shared_data / "models" / request.param, local_files_only=True
    )


def words_of_tokens(tokenizer, text: str) -> tuple[list[str], list[str]]:
    """Each token's span and the word that it is put in."""
    [one] = tokenize_documents(tokenizer, [text])
    start, end = word_spans(text)
    word = align(one.start, one.end, start, end)
    spans = [text[a:b] for a, b in zip(one.start, one.end, strict=True)]
    return spans, [text[start[w] : end[w]] for w in word]


def check_alignment(tokenizer, text: str) -> None:
    [one] = tokenize_documents(tokenizer, [text])
    assert one.ids.dtype == one.start.dtype == one.end.dtype == np.int32
    assert (one.start >= 0).all()
    assert (one.end <= len(text)).all()
    assert (one.start <= one.end).all()
    start, end = word_spans(text)
    for a, b, w in zip(one.start, one.end, align(one.start, one.end, start, end), strict=True):
        last = max((b if b > a else a) - 1, 0)
        assert start[w] <= last < end[w]
    assert tokenize_ids(tokenizer, [text])[0].tolist() == one.ids.tolist()


@given(st.text(min_size=1))
def test_a_token_is_in_the_word_that_holds_its_last_character(text):
    check_alignment(GPT2_LIKE, text)
    check_alignment(WORD_PIECE, text)


@pytest.mark.parametrize(
    "text",
    [
        "Once upon a time, <s> there was <unk></s> <|endoftext|> Lily.",
        "👍 wow 👨‍👩‍👧!",
        "  two spaces\r\n\ttab\n\n",
        "中文 ñandú e\u0301 ▁",
        "\x01\u200b\ufffd",
        " ",
    ],
)
def test_real_tokens_are_in_the_word_that_holds_their_last_character(real, text):
    check_alignment(real, text)


def test_tokens_of_byte_level_bpe_tile_the_text():
    text = " the  cat\nand <|endoftext|> 👍"
    [one] = tokenize_documents(GPT2_LIKE, [text])
    covered = np.zeros(len(text), int)
    for a, b in zip(one.start, one.end, strict=True):
        covered[a:b] += 1
    assert covered.min() >= 1
    spans = [text[a:b] for a, b in zip(one.start, one.end, strict=True)]
    assert spans[0] == " the"  # the space that GPT-2's post-processor would cut off


@pytest.mark.parametrize("literal", ["<s>", "</s>", "<unk>", "<|endoftext|>"])
def test_what_looks_like_a_special_token_is_text(real, literal):
    text = f"a {literal} b"
    spans, words = words_of_tokens(real, text)
    assert max(map(len, spans)) < len(literal)  # in pieces, not one special token
    assert words[-1] == "b"
    [one] = tokenize_documents(real, [text])
    assert len(one.ids) > 5
    assert real.bos_token_id is None or real.bos_token_id not in one.ids


def test_special_tokens_are_still_special_to_the_caller():
    tokenize_documents(GPT2_LIKE, ["the <|endoftext|>"])
    assert GPT2_LIKE.eos_token_id in GPT2_LIKE("the <|endoftext|>")["input_ids"]


def test_llamas_leading_space_shares_the_first_letters_offset(shared_data):
    folder = shared_data / "models" / "babyllama-105"
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    spans, words = words_of_tokens(tokenizer, "Hi you")
    assert spans == ["H", "H", "i", " ", "y", "o", "u"]
    assert words == ["Hi "] * 4 + ["you"] * 3


def test_the_bytes_of_an_emoji_share_its_offset_and_word(shared_data):
    folder = shared_data / "models" / "stories260k"
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    spans, words = words_of_tokens(tokenizer, "a 👍 b")
    assert spans.count("👍") == 4
    assert [w for s, w in zip(spans, words, strict=True) if s == "👍"] == ["👍 "] * 4


def test_the_bytes_of_an_emoji_under_byte_level_bpe():
    spans, words = words_of_tokens(GPT2_LIKE, "é🧪 x")
    assert "".join(dict.fromkeys(spans)) == "é🧪 x"
    assert set(zip(spans, words, strict=True)) == {
        ("é", "é"),
        ("🧪", "🧪 "),
        (" ", "🧪 "),
        ("x", "x"),
    }


def test_a_character_model_gets_words_of_characters(shared_data):
    folder = shared_data / "models" / "tensorforge-gpt1-char"
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    spans, words = words_of_tokens(tokenizer, "To be~\n")
    assert spans == list("To be~\n")  # one a character, the unknown "~" too
    assert words == ["To "] * 3 + ["be"] * 2 + ["~\n"] * 2


def test_an_unknown_word_has_its_own_span():
    spans, words = words_of_tokens(WORD_PIECE, "The qzx sings.")
    assert spans == ["The", "qzx", "sing", "s", "."]
    assert words == ["The ", "qzx ", "sings", "sings", "."]


def test_normalized_text_keeps_the_offsets_of_the_original():
    spans, _ = words_of_tokens(WORD_PIECE, "CAFE\u0301 a")  # lower-cased, accent stripped
    assert spans[:2] == ["CAF", "E"]
    assert spans[-1] == "a"


def test_dropout_truncation_and_padding_of_a_tokenizer_are_ignored():
    tokenizer = byte_level()
    expected = tokenize_ids(byte_level(), ["the cat and the dog"])[0].tolist()
    tokenizer.backend_tokenizer.model.dropout = 0.9
    tokenizer.backend_tokenizer.enable_truncation(2)
    tokenizer.backend_tokenizer.enable_padding(length=9)
    for _ in range(5):
        assert tokenize_documents(tokenizer, ["the cat and the dog"])[0].ids.tolist() == expected
    assert tokenizer_hash(tokenizer) == tokenizer_hash(byte_level())


def test_an_empty_text_has_no_tokens():
    [one] = tokenize_documents(GPT2_LIKE, [""])
    assert one.ids.shape == one.start.shape == one.end.shape == (0,)
    none = np.zeros(0, np.int32)
    assert align(none, none, none, none).tolist() == []


def test_a_slow_tokenizer_is_refused():
    class Slow:
        name_or_path = "some/byt5"

    with pytest.raises(BadInput, match="some/byt5 is not a fast one"):
        tokenize_documents(Slow(), ["a"])


def test_a_token_that_covers_nothing_belongs_to_the_word_before():
    start, end = word_spans("one two")
    tokens = np.array([[0, 0], [4, 4], [5, 5], [7, 7]])
    assert align(tokens[:, 0], tokens[:, 1], start, end).tolist() == [0, 0, 1, 1]


def test_tokens_of_another_text_are_refused():
    start, end = word_spans("one two")
    with pytest.raises(ValueError, match="not of the same text"):
        align(np.array([5]), np.array([9]), start, end)


def test_the_hash_tells_tokenizers_apart_and_models_with_the_same_one_together(shared_data):
    hashes = {}
    for name in REAL:
        tokenizer = AutoTokenizer.from_pretrained(
            shared_data / "models" / name, local_files_only=True
        )
        hashes[name] = tokenizer_hash(tokenizer)
    assert hashes["stories260k"] == hashes["llama2xs-279k"]
    assert len(set(hashes.values())) == 3


def test_vocabulary_of_sentencepiece(shared_data):
    folder = shared_data / "models" / "stories260k"
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    texts = vocabulary_texts(tokenizer)
    assert len(texts) == 512
    assert texts[:3] == ["<unk>", "<s>", "</s>"]
    assert texts[13] == "<0x0A>"
    ids = tokenize_ids(tokenizer, ["the end"])[0]
    assert "".join(texts[i] for i in ids) == " the end"


def test_vocabulary_of_byte_level_bpe():
    texts = vocabulary_texts(GPT2_LIKE)
    assert len(texts) == len(GPT2_LIKE)
    assert "<|endoftext|>" in texts
    assert {" the", " cat", "\n", "<0xF0>", "<0xFF>", "<0x00>", "<0x1B>"} <= set(texts)
    ids = tokenize_ids(GPT2_LIKE, ["the dog\n"])[0]
    assert "".join(texts[i] for i in ids) == "the dog\n"
    assert all(text.isprintable() or text.isspace() or "\x85" in text for text in texts)


def test_vocabulary_of_word_pieces():
    texts = vocabulary_texts(WORD_PIECE)
    assert texts[3] == " the"
    assert texts[5] == "ing"
    assert texts[:2] == ["[UNK]", "[CLS]"]


def test_vocabulary_of_gpt1():
    core = Tokenizer(models.BPE({"t": 0, "he</w>": 1, "the</w>": 3}, [], end_of_word_suffix="</w>"))
    core.decoder = decoders.BPEDecoder(suffix="</w>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    assert vocabulary_texts(tokenizer) == ["t", "he ", "", "the "]  # no token has the id 2


def test_a_stream_survives_its_folder(tmp_path):
    generator = np.random.default_rng(0)
    stream = TokenStream(
        **{
            name: generator.integers(0, 99, 7).astype(dtype)
            for name, dtype in {
                "token_id": "i4",
                "start": "i4",
                "end": "i4",
                "document": "i8",
                "position": "i4",
                "word": "i8",
            }.items()
        }
    )
    for _ in range(2):  # the second save replaces the first
        stream.save(tmp_path / "tokens")
    loaded = TokenStream.load(tmp_path / "tokens")
    assert len(loaded) == 7
    for name, array in vars(stream).items():
        assert getattr(loaded, name).dtype == array.dtype
        assert getattr(loaded, name).tolist() == array.tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["tokens"]
