"""Where well-known files of prompts and of reference statistics are published, for messages when they are missing."""

from fnmatch import fnmatchcase
from pathlib import Path

_MLPERF = "https://github.com/mlcommons/inference, in its folder text_to_image"
_PUBLISHED = {
    "captions_source.tsv": f"{_MLPERF}/coco2014/captions",
    "val2014.npz": f"{_MLPERF}/tools",
    "VIRTUAL_imagenet*.npz": "https://github.com/openai/guided-diffusion, in its folder evaluations",
}


def hint(file: str) -> str:
    """`; NAME is published at PLACE`, or nothing for a file that is not well known."""
    name = Path(file).name
    place = next((place for pattern, place in _PUBLISHED.items() if fnmatchcase(name, pattern)), None)
    return "" if place is None else f"; {name} is published at {place}"
