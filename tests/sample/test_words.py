"""Words that a small world's model was never told are said; a real text encoder's are not asked about."""

from types import SimpleNamespace

import pytest

from vidistill.lab.train.captions import clip_tokenizer, t5_tokenizer
from vidistill.sample.words import CLOSED, strange, told_words


@pytest.mark.parametrize("make", [clip_tokenizer, t5_tokenizer])
def test_strange_words_are_found_once_each(make) -> None:
    tokenizer = make()
    assert strange(tokenizer, ["orbit", "a purple star orbiting over a forest background, camera pan-left"]) == []
    assert strange(tokenizer, ["brush hair", "Brush a star", "walk"]) == ["brush", "hair", "walk"]
    model = SimpleNamespace(tokenizer=tokenizer, id="lab-x")
    assert told_words(model, ["orbit"]) == []
    (line,) = told_words(model, [f"walk{'x' * i}" for i in range(7)])
    assert "lab-x does not know 7 words of the prompts (walk, walkx, walkxx, walkxxx, walkxxxx, ...)" in line


def test_a_large_vocabulary_is_not_asked() -> None:
    class Large:
        def __len__(self) -> int:
            return CLOSED

    assert strange(Large(), ["anything at all"]) == []
