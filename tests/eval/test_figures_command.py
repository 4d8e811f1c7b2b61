"""`python -m pipelines.figures` on a referring set."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from caft.weights.files import save_model
from pipelines.figures import main

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(small, model, tmp_path_factory):
    """A folder with a model at random weights, and no settings."""
    place = tmp_path_factory.mktemp("figures")
    save_model(model.network, place / "model.safetensors", model.card)
    return place


@pytest.fixture
def figures(folder, monkeypatch, capsys):
    """Gives a function that runs the command in a folder: its exit code, and what it wrote to both streams."""

    def run(*arguments, where=folder):
        command = ["figures", "--model", folder / "model.safetensors", *arguments]
        monkeypatch.setattr(sys, "argv", list(map(str, command)))
        monkeypatch.chdir(where)
        code = 0
        try:
            main()
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return run


def test_examples_of_a_set_fit_the_first_screen(folder, figures, small):
    (small[1] / "params.yaml").write_text((PROJECT / "params.yaml").read_text())
    code, _, errors = figures("--set", "sentence", "-o", folder / "overlay.png", where=small[1])
    assert code == 0, errors
    assert (folder / "overlay.png").stat().st_size < 150_000
    assert Image.open(folder / "overlay.png").width < 1000
    code, _, errors = figures("--set", "random", "-o", folder / "overlay.png", where=small[1])
    assert code == 2 and "no such set of referring expressions; known are phrase, phrase_place, sentence" in errors


def test_what_is_wrong_is_said_in_one_line(figures, small):
    code, _, errors = figures("--set", "sentence")
    assert code == 2 and "-o/--output" in errors
    (small[1] / "params.yaml").write_text((PROJECT / "params.yaml").read_text())
    code, _, errors = figures("--set", "sentence", "-o", "out.jpg", where=small[1])
    assert code == 2 and "out.jpg: expected a name that ends in .png" in errors
