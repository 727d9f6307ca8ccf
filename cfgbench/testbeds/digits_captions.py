"""Captions of digits and their tokenizer: one token per word, no vocabulary beyond what the captions use.

open_clip reads a caption's embedding at its largest token id, so the end token must be the last of the vocabulary.
"""

import numpy as np

NUMERALS = tuple("0123456789")
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SCORED_TEMPLATE = "a photo of the digit {}"  # the one clip_scores uses, with the numeral
TEMPLATES = (
    SCORED_TEMPLATE,
    "{}",
    "the digit {}",
    "the number {}",
    "a handwritten {}",
    "a picture of the number {}",
    "an image of a handwritten digit {}",
    "a scan of the numeral {}",
    "someone wrote the number {}",
    "a small grey {}",
)
CONTEXT_LENGTH = 12
VOCABULARY = (
    "<pad>",
    "<start>",
    *NUMERALS,
    *WORDS,
    *sorted({word for template in TEMPLATES for word in template.split()} - {"{}"}),
    "<end>",
)

_IDS = {word: index for index, word in enumerate(VOCABULARY)}


def all_captions(digit: int) -> list[str]:
    """Every caption of a digit: each template with its numeral and with its word."""
    return [template.format(name) for template in TEMPLATES for name in (NUMERALS[digit], WORDS[digit])]


def tokenize(captions: list[str]) -> np.ndarray:
    """Token ids (n, 12) int64 of captions, case ignored; raises ValueError on an unknown word or a long caption."""
    return np.array([_tokens(caption) for caption in captions], dtype=np.int64)


def _tokens(caption: str) -> list[int]:
    words = ["<start>", *caption.lower().split(), "<end>"]
    unknown = [word for word in words if word not in _IDS]
    if unknown:
        raise ValueError(f"caption {caption!r} has the word {unknown[0]!r}; allowed are {', '.join(VOCABULARY[2:-1])}")
    if len(words) > CONTEXT_LENGTH:
        raise ValueError(f"caption {caption!r} has {len(words) - 2} words; at most {CONTEXT_LENGTH - 2} are allowed")
    return [_IDS[word] for word in words] + [0] * (CONTEXT_LENGTH - len(words))
