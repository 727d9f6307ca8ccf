"""Prompt sets keep their order, whatever they are read from, and what is wrong with one is said in a sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from cfgbench.assets import prompts
from cfgbench.assets.prompts import PromptSource
from cfgbench.errors import InputError
from cfgbench.planning import experiment, plan
from tests import tiny_pipelines

TEXTS = ("a red fox", 'two "boats", at sea', "ein Bär im Schnee", "a red fox")
QUOTED = '"two ""boats"", at sea"'
SOURCES = {
    "prompts.txt": ("\ufeff" + "\n\n".join(TEXTS) + "\n", None),
    "prompts.csv": (f"id,caption\n0,a red fox\n1,{QUOTED}\n2,ein Bär im Schnee\n3,a red fox\n", "caption"),
    "prompts.tsv": (f"id\tcaption\n0\ta red fox\n1\t{QUOTED}\n2\tein Bär im Schnee\n3\ta red fox\n", "caption"),
    "prompts.jsonl": ("\n".join(json.dumps({"caption": [text, "another"]}) for text in TEXTS), "caption"),
}


def load(folder: Path, **fields: Any) -> prompts.PromptSet:
    return prompts.load(PromptSource(**fields), str(folder / "x.yaml"))


@pytest.mark.parametrize("file", SOURCES)
def test_every_kind_of_file_gives_the_same_prompts_in_order(file: str, tmp_path: Path) -> None:
    content, column = SOURCES[file]
    (tmp_path / file).write_text(content, encoding="utf-8")
    (tmp_path / "plain.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    found = load(tmp_path, file=file, column=column)
    assert found.texts == TEXTS and found.name == file
    assert found.digest == load(tmp_path, file="plain.txt").digest


def test_a_table_with_tabs_may_use_quotation_marks_as_characters(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text('id\tcaption\n0\t"X" marks the spot\n1\ta sign that says "STOP"\n')
    found = load(tmp_path, file="x.tsv", column="caption")
    assert found.texts == ('"X" marks the spot', 'a sign that says "STOP"')


def test_a_parquet_file_gives_them_too(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason="parquet needs pyarrow")
    parquet.write_table(pyarrow.table({"caption": list(TEXTS)}), tmp_path / "prompts.parquet")
    assert load(tmp_path, file="prompts.parquet", column="caption").texts == TEXTS


def test_a_file_of_a_hub_dataset_is_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(InputError, match="hf download someone/captions --repo-type dataset"):
        load(tmp_path, file="test.csv", column="caption", dataset="someone/captions")
    home = tmp_path / "hub" / "datasets--someone--captions"
    (home / "snapshots" / "abc").mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    (home / "snapshots" / "abc" / "test.csv").write_text(SOURCES["prompts.csv"][0], encoding="utf-8")
    found = load(tmp_path, file="test.csv", column="caption", dataset="someone/captions", revision="main")
    assert found.texts == TEXTS and found.name == "someone/captions/test.csv"


def test_order_and_wording_are_in_the_digest_and_the_first_so_many_are_a_set_of_their_own(tmp_path: Path) -> None:
    for name, texts in (("a.txt", TEXTS), ("b.txt", TEXTS[::-1])):
        (tmp_path / name).write_text("\n".join(texts), encoding="utf-8")
    found = [load(tmp_path, file="a.txt"), load(tmp_path, file="b.txt"), load(tmp_path, file="a.txt", limit=2)]
    assert len({item.digest for item in found}) == 3
    assert found[2].texts == TEXTS[:2]


@pytest.mark.parametrize(
    ("file", "content", "fields", "message"),
    [
        ("x.txt", b"", {}, "x.txt holds no prompts"),
        ("x.txt", b"one", {"limit": 2}, "limit = 2, and x.txt holds 1 prompts"),
        ("x.txt", b"one", {"column": "text"}, "a text file with a prompt a line"),
        ("x.txt", b"\xff\xfe", {}, "is not UTF-8 text"),
        ("x.csv", b"id,text\n1,one\n", {}, "say which column: id, text"),
        ("x.csv", b"id,text\n1,one\n", {"column": "txt"}, "has no column 'txt'; it has id, text"),
        ("x.csv", b"id,text\n1,one\n2, \n", {"column": "text"}, "prompt 2 of x.csv is empty"),
        ("x.csv", b"id,text\n1\n", {"column": "text"}, "row 1 of x.csv has None as text"),
        ("x.csv", b'id,text\n1,one\n2,"X" marks\n', {"column": "text"}, "line 3 of"),
        ("x.tsv", b'id\ttext\n1\t"a ""b"""\n2\t"X" marks\n', {"column": "text"}, "line 3 of"),
        ("x.jsonl", b'{"text": "one"}\nnonsense', {"column": "text"}, "line 2 of"),
        ("x.jsonl", b"[1]", {"column": "text"}, "is no JSON object"),
        ("x.docx", b"one", {}, "x.docx is none of .txt, .csv, .tsv, .jsonl, .parquet"),
    ],
)
def test_what_is_wrong_with_a_prompt_set_is_named(
    file: str, content: bytes, fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError) as caught:
        load(tmp_path, file=file, **fields)
    assert str(caught.value).startswith("prompts in ") and message in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"there is no {tmp_path}/none\.txt nor .*/none\.txt$"):
        load(tmp_path, file="none.txt")
    with pytest.raises(
        InputError, match=r"published at https://github\.com/mlcommons/inference, in its folder text_to"
    ):
        load(tmp_path, file="captions_source.tsv", column="caption")


def test_a_file_is_looked_for_beside_the_experiment_and_then_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "experiments").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.txt").write_text("a fox")
    assert load(tmp_path / "experiments", file="p.txt").texts == ("a fox",)
    (tmp_path / "experiments" / "p.txt").write_text("two foxes")
    prompts.load.cache_clear()
    assert load(tmp_path / "experiments", file="p.txt").texts == ("two foxes",)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipelines.save("stable_diffusion", tmp_path_factory.mktemp("pipeline"))


def body_of(checkpoint: Path, num_samples: int) -> dict[str, Any]:
    model = {"name": "stable_diffusion", "path": str(checkpoint)}
    sweeps = [{"model": model, "sampler": "ddim", "steps": 2, "guidance_scale": 2}]
    return {"name": "x", "num_samples": num_samples, "sweeps": sweeps}


def planned(checkpoint: Path, folder: Path, num_samples: int, num_prompts: int) -> plan.Plan:
    (folder / "p.txt").write_text("\n".join(f"{number} foxes" for number in range(num_prompts)))
    body = body_of(checkpoint, num_samples) | {"prompts": "p.txt"}
    return plan.plan(experiment.parse(body, str(folder / "x.yaml")))


def test_sample_i_has_prompt_i_mod_their_number(checkpoint: Path, tmp_path: Path) -> None:
    (task,) = planned(checkpoint, tmp_path, 80, 40).tasks
    asked = task.batch_prompts(range(38, 43), tmp_path)
    assert asked is not None and asked.indices == (38, 39, 40, 41, 42)
    assert asked.texts == ("38 foxes", "39 foxes", "0 foxes", "1 foxes", "2 foxes")


@pytest.mark.parametrize(
    ("samples", "number", "unit", "note"),
    [
        (40, 40, 1, "40 of the 40"),  # an image of each
        (80, 40, 1, "40 of the 40"),  # a group has whole prompts
        (60, 3, 3, "3 of the 3"),  # every group has every prompt
        (40, 3, 3, "no error bars"),
    ],
)
def test_images_of_a_prompt_share_a_group_or_every_group_has_each(
    samples: int, number: int, unit: int, note: str, checkpoint: Path, tmp_path: Path
) -> None:
    made = planned(checkpoint, tmp_path, samples, number)
    assert made.tasks[0].num_classes == unit
    assert any(note in text for text in made.notes)


def test_a_model_that_draws_prompts_needs_some(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lacks the field 'prompts', which model stable_diffusion needs"):
        plan.plan(experiment.parse(body_of(checkpoint, 20), str(tmp_path / "x.yaml")))
