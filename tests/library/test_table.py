"""Rows of pictures and captions in every form that clients send: each has a meaning, or one error names the row."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from caft.adapters.pyfunc import CARD, WEIGHTS, PairScores, ServedScores, _load_pyfunc
from caft.adapters.table import FOLDER
from caft.errors import DataError

TEXT = "A red cat on a mat. It sleeps."


@pytest.fixture(scope="module")
def scores(model):
    return PairScores(model)


@pytest.fixture(scope="module")
def expected(model, pictures):
    return model.similarity(pictures[0], TEXT).item()


def one(scores, image, text=TEXT, **params):
    [found] = scores.predict(
        pd.DataFrame({"image": pd.Series([image], dtype=object), "caption": [text]}), params or None
    )
    return found


def code(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


# ---- pictures


def in_lines(path: Path) -> str:
    return base64.encodebytes(path.read_bytes()).decode()  # a break after each 76 letters, and at the end


FORMS = {
    "path": str,
    "Path": Path,
    "numpy's text": lambda path: np.str_(path),
    "bytes": Path.read_bytes,
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "base64": code,
    "base64 in lines": in_lines,
    "base64 in lines of Windows": lambda path: in_lines(path).replace("\n", "\r\n"),
    "urlsafe": lambda path: base64.urlsafe_b64encode(path.read_bytes()).decode(),
    "no padding": lambda path: code(path).rstrip("="),
    "urlsafe, no padding": lambda path: base64.urlsafe_b64encode(path.read_bytes()).decode().rstrip("="),
    "data URL": lambda path: f"data:image/jpeg;base64,{code(path)}",
    "data URL with parameters": lambda path: f"DATA:image/jpeg;charset=utf-8;name=a.jpg;base64,{code(path)}",
    "data URL without a type": lambda path: f"data:;base64,{code(path)}",
    "data URL, escaped": lambda path: "data:image/jpeg;base64," + code(path).replace("+", "%2B").replace("/", "%2F"),
    "data URL without base64": lambda path: "data:image/jpeg," + "".join(f"%{byte:02x}" for byte in path.read_bytes()),
    "base64 as bytes": lambda path: code(path).encode(),
    "base64 in lines as bytearray": lambda path: bytearray(in_lines(path).encode()),
    "data URL as bytes": lambda path: f"data:image/jpeg;base64,{code(path)}".encode(),
    "base64 with a byte order mark": lambda path: "\ufeff" + code(path),
    "base64 in quotes": lambda path: f'"{code(path)}"',
    "data URL after a blank": lambda path: f" data:image/jpeg;base64,{code(path)}",
    "path between blanks": lambda path: f" {path}\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_picture_is_the_same_picture(scores, expected, pictures, form):
    assert one(scores, FORMS[form](pictures[0])) == pytest.approx(expected, abs=1e-4)


def test_padding_and_alphabets_are_all_tried_by_these_pictures(pictures):
    """Of the six files, some need padding, and some have letters in which the alphabets differ."""
    assert any(code(path).endswith("=") for path in pictures) and any("+" in code(path) for path in pictures)


@pytest.mark.parametrize("number", range(6))
def test_base64_without_padding_in_the_other_alphabet_is_read_for_each_length(scores, model, pictures, number):
    sent = base64.urlsafe_b64encode(pictures[number].read_bytes()).decode().rstrip("=")
    assert one(scores, sent) == pytest.approx(model.similarity(pictures[number], TEXT).item(), abs=1e-4)


def test_a_text_that_could_be_both_is_the_file_that_is_there(scores, expected, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("abcd").write_bytes(pictures[0].read_bytes())
    assert one(scores, "abcd") == pytest.approx(expected, abs=1e-4)
    Path("abcd").unlink()
    with pytest.raises(DataError, match=r"^row 0, image 'abcd': no such file here, and not base64 of a picture"):
        one(scores, "abcd")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "None (NoneType): expected a path"),
        (float("nan"), "nan (float): expected a path"),
        (pd.NA, "<NA> (NAType): expected a path"),
        (pd.NaT, "NaT (NaTType): expected a path"),
        (7, "7 (int): expected a path"),
        (["a.jpg"], "['a.jpg'] (list): expected a path"),
        ("", "'': is empty; expected a path"),
        ("photos/absent.jpg", "'photos/absent.jpg': no such file here, and not base64 of a picture"),
        ("photos/absent", "'photos/absent': no such file here, and not base64 of a picture"),
        ("a\0b", r"'a\x00b': no such file here, and not base64"),
        ("é" * 5000, "...: no such file here"),
        (b"", "of 0 bytes: cannot be decoded as a picture"),
        (b"no picture", "of 10 bytes: cannot be decoded as a picture (it is text; give a picture file)"),
        (b"abcd", "of 4 bytes: cannot be decoded as a picture (it is text; give a picture file)"),
        ({"bytes": b"a"}, "(dict): expected a path"),
        ("  ", "'  ': "),
        ("data:image/png;base64,????", "is not a data URL of a picture"),
        ("data:image/png;base64", "is not a data URL of a picture"),
        ("data:,hello", "cannot be decoded as a picture"),
    ],
)
def test_what_is_no_picture_is_one_error_that_names_the_row(scores, pictures, value, shown):
    rows = [{"image": pictures[0], "caption": TEXT}, {"image": value, "caption": TEXT}]
    for table in (rows, pd.DataFrame({"image": pd.Series([r["image"] for r in rows], dtype=object), "caption": TEXT})):
        with pytest.raises(DataError) as raised:
            scores.predict(table)
        assert re.match("row 1, image ", str(raised.value)) and shown in str(raised.value)
        assert len(str(raised.value)) < 250 and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("", "the text '' has no sentence"),
        (" . ", "has no sentence"),
        (None, "None (NoneType): expected a text"),
        (float("nan"), "nan (float): expected a text"),
        (pd.NA, "<NA> (NAType): expected a text"),
        (b"A cat.", "(bytes): expected a text"),
        (["A cat."], "(list): expected a text"),
    ],
)
def test_what_is_no_caption_is_one_error_that_names_the_row(scores, pictures, value, shown):
    with pytest.raises(DataError) as raised:
        scores.predict([{"image": pictures[0], "caption": text} for text in (TEXT, TEXT, value)])
    assert str(raised.value).startswith("row 2, caption: ") and shown in str(raised.value)


def test_all_rows_that_are_wrong_are_counted_at_once(scores, pictures):
    rows = [{"image": None, "caption": TEXT} for _ in range(7)] + [{"image": pictures[0], "caption": ""}] * 3
    with pytest.raises(DataError) as raised:
        scores.predict(rows)
    first, *lines = str(raised.value).splitlines()
    assert first == "10 rows cannot be scored" and len(lines) == 6
    assert lines[0].startswith("  row 0, image None") and lines[-1] == "  and 5 more"


# ---- tables


def test_every_form_of_a_table_gives_the_same_scores(scores, model, pictures):
    images, captions = [str(path) for path in pictures[:3]], [TEXT, "A dog.", TEXT]
    wanted = [model.similarity(i, c).item() for i, c in zip(images, captions, strict=True)]
    frame = pd.DataFrame({"caption": captions, "id": [4, 5, 6], "image": images}, index=[7, 7, 9])
    fields = np.array(list(zip(images, captions, strict=True)), dtype=[("image", object), ("caption", object)])
    for table in (
        frame,
        frame.to_dict("records"),
        frame.to_dict("list"),
        {"image": np.array(images), "caption": np.array(captions)},
        np.array(frame.to_dict("records")),
        frame[["image", "caption"]].to_numpy(),
        list(zip(images, captions, strict=True)),
        fields,
        json.loads(frame.reset_index(drop=True).to_json()),
        {"image": dict(enumerate(images)), "caption": {row: captions[row] for row in (2, 0, 1)}},
        pa.table({"caption": captions, "image": images}),
        pa.record_batch({"caption": captions, "image": images}),
        frame.assign(column_names="x", to_pylist="y"),
    ):
        assert scores.predict(table) == pytest.approx(wanted, abs=1e-4)
    assert scores.predict({"image": images[0], "caption": TEXT}) == pytest.approx(wanted[:1], abs=1e-4)


@pytest.mark.parametrize("table", [pd.DataFrame({"image": [], "caption": []}), [], {"image": [], "caption": []}])
def test_a_table_without_rows_has_no_scores(scores, table):
    assert scores.predict(table).shape == (0,)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame({"picture": ["a"], "caption": ["b"]}), "column image is missing: .*found picture, caption"),
        (pd.DataFrame(), "column image is missing: .*found none"),
        (pd.DataFrame([["a", "b", "c"]], columns=["image", "image", "caption"]), "column image is there twice"),
        ({"image": ["a"]}, "column caption is missing"),
        ({"image": ["a", "b"], "caption": ["c"]}, "found 2 images and 1 captions"),
        ([{"image": "a", "caption": "b"}, {"image": "a"}], "row 1: has no caption"),
        (
            {"image": {"0": "a"}, "caption": {"1": "b"}},
            "image and caption have other rows .'0', '1' in one of them alone",
        ),
        (pa.table({"picture": ["a"], "caption": ["b"]}), "column image is missing: .*found picture, caption$"),
        ([("a", "b"), ("a",)], "row 1: expected an image and a caption, found 1 values"),
        (np.array([["a", "b", "c"]]), "row 0: expected an image and a caption, found 3 values"),
        (["a"], "row 0: expected an image and a caption, found str"),
        (None, "expected a table with the columns image and caption, found NoneType"),
        ("a.jpg", "expected a table with the columns image and caption, found str"),
    ],
)
def test_what_is_no_table_is_one_error(scores, table, message):
    with pytest.raises(DataError, match=message):
        scores.predict(table)


# ---- parameters


def test_the_weight_may_be_any_number_in_its_range(scores, model, pictures, expected):
    for weight in (0, 1, 0.7, np.float32(0.5), np.int64(1)):
        wanted = model.similarity(pictures[0], TEXT, part_weight=float(weight)).item()
        assert one(scores, pictures[0], part_weight=weight) == pytest.approx(wanted, abs=1e-4)
    assert one(scores, pictures[0], part_weight=None) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "weight", [7, -0.1, 1.0001, float("nan"), float("inf"), "0.3", True, [0.3], np.complex64(0.3), 0.3j]
)
def test_another_weight_is_one_error(scores, pictures, weight):
    with pytest.raises(DataError, match=r"part_weight = .*: expected a number from 0 to 1"):
        one(scores, pictures[0], part_weight=weight)


def test_an_unknown_parameter_is_named(scores, pictures):
    with pytest.raises(DataError, match="parameter weight: is not known; the only one is part_weight"):
        one(scores, pictures[0], weight=0.3)


# ---- which files a server opens


@pytest.fixture
def logged(tmp_path, model_file):
    """The folder that MLflow gives to `_load_pyfunc`."""
    (tmp_path / "logged").mkdir()
    (tmp_path / "logged" / WEIGHTS).write_bytes(model_file.read_bytes())
    (tmp_path / "logged" / CARD).write_bytes(model_file.with_suffix(".json").read_bytes())
    return str(tmp_path / "logged")


@pytest.fixture
def folder(tmp_path, pictures):
    """A folder of a server's, with a picture, and links out of it."""
    place = tmp_path / "allowed"
    (place / "inner").mkdir(parents=True)
    (place / "inner/a.jpg").write_bytes(pictures[0].read_bytes())
    (tmp_path / "secret.jpg").write_bytes(pictures[0].read_bytes())
    (place / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    return place


def test_only_files_in_the_named_folder_are_opened(logged, folder, expected, pictures, monkeypatch):
    monkeypatch.setenv(FOLDER, str(folder))
    scores = _load_pyfunc(logged)
    for image in ("inner/a.jpg", str(folder / "inner/a.jpg"), "inner/../inner/a.jpg", code(pictures[0])):
        assert one(scores, image) == pytest.approx(expected, abs=1e-4)
    for image in ("../secret.jpg", str(folder.parent / "secret.jpg"), "link.jpg", "../absent.jpg", "inner"):
        with pytest.raises(DataError, match=f"no such file in the server's {FOLDER}, and not base64"):
            one(scores, image)


def test_mlflows_server_opens_no_file_unless_a_folder_is_named(logged, folder, expected, pictures, monkeypatch):
    """Its own application, called as over the network; it marks its process by a variable."""
    pytest.importorskip("httpx")
    import mlflow.pyfunc
    from fastapi.testclient import TestClient
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import scoring_server
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    saved = folder.parent / "saved"
    mlflow.pyfunc.save_model(
        saved,
        loader_module="caft.adapters.pyfunc",
        data_path=logged,
        pip_requirements=[],
        signature=ModelSignature(
            inputs=Schema([ColSpec("string", name) for name in ("image", "caption")]),
            params=ParamSchema([ParamSpec("part_weight", "double", 0.3)]),
        ),
    )
    # The name is MLflow's; if it changes, its server must fail here rather than open files.
    monkeypatch.setenv(scoring_server._SERVER_MODEL_PATH, str(saved))

    def ask(image, caption=TEXT, **params):
        client = TestClient(scoring_server.init(mlflow.pyfunc.load_model(str(saved))))
        rows = {"dataframe_records": [{"image": image, "caption": caption}], "params": params}
        answer = client.post("/invocations", content=json.dumps(rows), headers={"Content-Type": "application/json"})
        return answer.status_code, answer.json()

    status, content = ask(code(pictures[0]))
    assert status == 200 and content["predictions"] == [pytest.approx(expected, abs=1e-4)]
    for arguments, params, message in (
        ((str(folder / "inner/a.jpg"),), {}, f"row 0, image .*: paths are not opened here .*{FOLDER}"),
        (("/etc/passwd",), {}, "row 0, image '/etc/passwd': paths are not opened here"),
        (("/etc/no_such",), {}, "row 0, image '/etc/no_such': paths are not opened here"),
        ((code(pictures[0]), " . "), {}, "row 0, caption: the text .* has no sentence"),
        ((code(pictures[0]),), {"part_weight": 7}, "part_weight = 7.0: expected a number from 0 to 1"),
    ):
        status, content = ask(*arguments, **params)
        assert status == 400 and re.search(message, content["message"]), content
        assert "stack_trace" not in content and "Traceback" not in json.dumps(content)
    monkeypatch.setenv(FOLDER, str(folder))
    status, content = ask("inner/a.jpg")
    assert status == 200 and content["predictions"] == [pytest.approx(expected, abs=1e-4)]
    assert isinstance(_load_pyfunc(logged), ServedScores)
