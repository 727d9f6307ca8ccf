"""Licences of models on the hub: by the model card in the cache, or as known when this version was made."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from cfgbench.doctor.items import NOTE, Item


class Licence(NamedTuple):
    """Under which terms a repository was when this version of cfgbench was made."""

    name: str
    gated: bool = False  # its page asks to accept them before anything can be downloaded


KNOWN = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": Licence("CreativeML OpenRAIL-M"),
    "stabilityai/stable-diffusion-xl-base-1.0": Licence("CreativeML Open RAIL++-M"),
    "stabilityai/stable-diffusion-3-medium-diffusers": Licence("Stability AI Community License", gated=True),
    "stabilityai/stable-diffusion-3.5-medium": Licence("Stability AI Community License", gated=True),
    "black-forest-labs/FLUX.1-dev": Licence("FLUX.1 [dev] Non-Commercial License", gated=True),
    "PixArt-alpha/PixArt-XL-2-512x512": Licence("CreativeML Open RAIL++-M"),
    "kandinsky-community/kandinsky-2-2-decoder": Licence("Apache 2.0"),
    "kandinsky-community/kandinsky-2-2-prior": Licence("Apache 2.0"),
    "facebook/DiT-XL-2-256": Licence("CC BY-NC 4.0"),
}
_CARD = re.compile(r"^license(?:_name)?:\s*(\S+)", re.MULTILINE)


def item(repository: str, files: Mapping[str, Path]) -> Item:
    """The licence of a repository, of which these files are in the cache, and where to read it."""
    said, known = _of_card(files), KNOWN.get(repository)
    if said:
        text = f"{repository}: {', '.join(said)} by its model card"
    elif known is not None:
        text = f"{repository}: {known.name}, known when this version was made"
    else:
        text = f"{repository}: not known here"
    if known is not None and known.gated:
        text += "; it is gated: accept the licence on its page, then `hf auth login`"
    return Item(NOTE, "licence", f"{text}; read https://huggingface.co/{repository}")


def _of_card(files: Mapping[str, Path]) -> list[str]:
    first = next(iter(files.values()), None)
    cards = [folder / "README.md" for folder in first.parents if folder.parent.name == "snapshots"] if first else []
    return _CARD.findall(cards[0].read_text(errors="replace")) if cards and cards[0].is_file() else []
