"""The words of the zoo's models: every word is one token, and captions leave out what they should, as often as they should."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from vidistill.data.world import FACTORS, MOTIONS, factors
from vidistill.lab.train import captions

CLIPS = [factors(5, index) for index in range(4000)]


@pytest.fixture(scope="module", params=["clip", "t5"])
def tokenizer(request):
    return captions.clip_tokenizer() if request.param == "clip" else captions.t5_tokenizer()


def test_every_word_of_every_caption_is_one_token(tokenizer) -> None:
    ends = 2 if tokenizer.bos_token else 1
    for record in CLIPS[:300]:
        text = record.caption()
        pieces = re.findall(r"[a-z]+|[,-]", text)
        assert set(pieces) <= set(captions.words())
        ids = tokenizer(text).input_ids
        assert len(ids) == len(pieces) + ends, tokenizer.convert_ids_to_tokens(ids)
        assert len(ids) <= captions.LENGTH
        assert tokenizer.unk_token_id not in ids[:-1] or tokenizer.unk_token == tokenizer.eos_token


def test_captions_that_differ_have_tokens_that_differ(tokenizer) -> None:
    texts = {record.caption() for record in CLIPS[:500]} | {"", *MOTIONS}
    assert len({tuple(tokenizer(text).input_ids) for text in texts}) == len(texts)


def test_an_unknown_word_is_spelt_and_does_no_harm(tokenizer) -> None:
    ids = tokenizer("a red bus").input_ids
    assert len(ids) > len(tokenizer("a red").input_ids)


def test_a_saved_tokenizer_comes_back_with_the_same_ids(tokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    options = {"padding": "max_length", "truncation": True}
    texts = ["", *(record.caption() for record in CLIPS[:100]), " ".join(["red"] * 50)]
    before, after = tokenizer(texts, **options), again(texts, **options)
    assert before.input_ids == after.input_ids
    assert before.attention_mask == after.attention_mask
    assert {len(ids) for ids in after.input_ids} == {captions.LENGTH}


def test_captions_are_dropped_and_shortened_in_the_stated_shares() -> None:
    texts = [captions.caption(record, 0, 0, index) for index, record in enumerate(CLIPS)]
    full = [(text, record) for text, record in zip(texts, CLIPS, strict=True) if " " in text]

    def share(count: int, of: int, stated: float) -> None:
        assert abs(count / of - stated) < 4 * math.sqrt(stated * (1 - stated) / of), (count / of, stated)

    share(texts.count(""), len(texts), captions.DROPPED)
    share(
        sum(text == record.motion for text, record in zip(texts, CLIPS, strict=True)),
        len(texts),
        captions.CLASS_NAME * (1 - captions.DROPPED),
    )
    for factor, left_out in captions.LEFT_OUT.items():
        silent = sum("camera" not in text if factor == "camera" else getattr(record, factor) not in text.split() for text, record in full)
        share(silent, len(full), left_out)


def test_captions_are_true() -> None:
    for index, record in enumerate(CLIPS[:500]):
        text = captions.caption(record, 0, 0, index)
        if not text:
            continue
        said = set(text.split()) | {text.rpartition("camera ")[2]}
        for factor in ("shape", "colour", "background", "camera"):
            assert said & set(FACTORS[factor]) <= {getattr(record, factor)} | ({"still"} & {record.camera}), (text, record)
        assert MOTIONS[record.motion] in text or text == record.motion
        assert text.startswith(("an orange ", "a ")) or text == record.motion


def test_captions_depend_on_seed_and_path_alone() -> None:
    texts = [
        [captions.caption(record, *path, index) for index, record in enumerate(CLIPS[:200])] for path in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2] != texts[3]
