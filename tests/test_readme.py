"""The README's examples run as they stand there."""

import re
from pathlib import Path

import pytest

from collab import synthetic
from collab.learner.recipes import RECIPES

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_every_python_block_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    ml = synthetic(seed=0)
    ml.ratings.to_csv(tmp_path / "ratings.csv", index=False)
    ml.items.to_csv(tmp_path / "films.csv", index=False)
    ml.ratings.iloc[:, :2].to_csv(tmp_path / "clicks.csv", index=False)
    ml.ratings[["user", "item", "time"]].to_csv(tmp_path / "plays.csv", index=False)
    monkeypatch.chdir(tmp_path)
    names, errors = {}, []
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
        errors.append(names["learn"].validate()["rmse"])
    assert errors[0] < 0.8                                   # the mean rating has 1.02 on these
    assert len(errors) == 5 and errors[1] < 1
    assert names["both"].model.members[0].implicit and (tmp_path / "items.safetensors").exists()
    assert names["ahead"].model.window == 50
    assert type(names["learn"].model).__name__ == "Distance" and errors[3] < 1.2
    assert (tmp_path / "model.safetensors").exists()


def test_its_models_are_all_that_have_a_recipe():
    table = README[README.index("## Models"):README.index("## From the command line")]
    names = re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in table.splitlines() if row.startswith("| `")))
    assert sorted(names) == sorted(RECIPES)


def test_the_error_it_shows_is_the_one_that_is_raised():
    from collab import CollabDataBunch, DataError
    call, shown = re.search(r'from_df\(ratings, rating_name="(\w+)"\)\n(.+?)\n```', README, re.DOTALL).groups()
    ratings = synthetic(seed=0).ratings.rename(columns={"rating": "stars"})
    with pytest.raises(DataError) as error:
        CollabDataBunch.from_df(ratings, rating_name=call)
    assert " ".join(shown.split()) == f"DataError: {error.value}"


def test_the_makefile_has_the_targets_it_names():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    for target in set(re.findall(r"(?:^|`)make (\w+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
