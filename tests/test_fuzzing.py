"""Whatever files hold: prompts, folders of images and arrays are read, or refused with one sentence; nothing else."""

import io
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cfgbench.assets import prompts
from cfgbench.assets.prompts import PromptSet, PromptSource
from cfgbench.errors import InputError
from cfgbench.external import arms

QUICK = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CELLS = st.text(alphabet=st.characters(exclude_categories=()), max_size=12)


def refused_in_one_sentence(work: Callable[[], object]) -> object:
    """What it returns, or None where it was refused as it should be."""
    try:
        return work()
    except InputError as error:
        sentence = str(error)
    assert sentence.strip()
    assert "\n" not in sentence
    return None


def loaded(name: str, content: bytes, column: str | None, limit: int | None) -> PromptSet | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        source = PromptSource(file=name, column=column, limit=limit)
        found = refused_in_one_sentence(lambda: prompts.load(source, f"{folder}/experiment.yaml"))
    assert found is None or isinstance(found, PromptSet)
    return found


@QUICK
@given(
    suffix=st.sampled_from([".txt", ".csv", ".tsv", ".jsonl", ".parquet", ".xyz"]),
    content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")),
    column=st.none() | CELLS,
    limit=st.none() | st.integers(1, 5),
)
def test_no_content_of_a_prompt_file_raises_anything_else(
    suffix: str, content: bytes, column: str | None, limit: int | None
) -> None:
    found = loaded(f"prompts{suffix}", content, column, limit)
    if found is not None:
        assert found.texts
        assert all(text.strip() for text in found.texts)
        assert limit is None or len(found) == limit


LINES = st.text(st.characters(codec="utf-8", exclude_categories=("Zl", "Zp", "Cc", "Cs")), min_size=1).filter(str.strip)


@QUICK
@given(st.lists(LINES, min_size=1, max_size=6))
def test_prompts_come_back_in_order_as_they_were_written(texts: list[str]) -> None:
    found = loaded("prompts.txt", "\n".join(texts).encode(), None, None)
    assert found is None or [text.strip() for text in found.texts] == [text.strip("\ufeff").strip() for text in texts]


def picture(mode: str, size: tuple[int, int], kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind)
    return buffer.getvalue()


SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
FILES = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9_ .-]{0,6}\.(png|jpg|bmp|txt|PNG)", fullmatch=True).filter(
        lambda name: name[0] not in ". "
    ),
    st.binary(max_size=60)
    | st.builds(
        picture, st.sampled_from(["L", "RGB", "RGBA", "1", "P"]), st.tuples(*[st.integers(1, 9)] * 2), st.just("PNG")
    )
    | st.builds(lambda data, n: data[:n], st.just(picture("L", (8, 8), "PNG")), st.integers(0, 60)),
    max_size=5,
)


@QUICK
@given(FILES)
def test_no_folder_of_images_raises_anything_else(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        for file, content in files.items():
            (Path(name) / file).write_bytes(content)

        def read() -> int:
            source, items = arms.open_source(Path(name))
            assert min(source.size) >= 1  # type: ignore[union-attr]
            assert sum(len(chunk) for chunk in source.chunks(3)) == len(items.keys)  # type: ignore[union-attr]
            return len(items.keys)

        count = refused_in_one_sentence(read)
        assert count is None or count == sum(Path(file).suffix.lower() != ".txt" for file in files)


@QUICK
@given(
    arrays=st.dictionaries(
        st.sampled_from(["arr_0", "arr_1", "features", "labels", "x"]),
        st.sampled_from([np.uint8, np.float32, np.int64, np.complex64, np.str_]).flatmap(
            lambda kind: st.lists(st.integers(0, 4), max_size=4).map(lambda shape: np.zeros(shape, kind))
        ),
        max_size=3,
    ),
    cut=st.integers(0, 400),
)
def test_no_array_file_raises_anything_else(arrays: dict[str, np.ndarray], cut: int) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    content = buffer.getvalue()
    for whole in (content, content[: max(0, len(content) - cut)]):
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "samples.npz"
            path.write_bytes(whole)
            refused_in_one_sentence(partial(arms.open_source, path))
