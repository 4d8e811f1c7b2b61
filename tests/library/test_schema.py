"""Rows without a value behind MLflow's own schema: it lets None through in a required column, and our error names the row."""

import warnings

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

from caft.adapters.pyfunc import CARD, COLUMNS, WEIGHTS
from caft.errors import DataError

TEXT = "A red cat on a mat. It sleeps."


@pytest.fixture(scope="module")
def served(model_file, tmp_path_factory):
    """The model as MLflow loads it, with the schema that `train` logs."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "data").mkdir()
    (folder / "data" / WEIGHTS).symlink_to(model_file)
    (folder / "data" / CARD).symlink_to(model_file.with_suffix(".json"))
    signature = ModelSignature(
        inputs=Schema([ColSpec("string", name) for name in COLUMNS]),
        outputs=Schema([ColSpec("double")]),
        params=ParamSchema([ParamSpec("part_weight", "double", 0.3)]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            folder / "saved", loader_module="caft.adapters.pyfunc", data_path=folder / "data", pip_requirements=[],
            signature=signature,
        )  # fmt: skip
    return mlflow.pyfunc.load_model(str(folder / "saved"))


def frame(rows):
    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in COLUMNS})


@pytest.mark.parametrize(
    "value", [None, float("nan"), pd.NA, pd.NaT, 7, 1.5, True, np.float32(2), ["a"], {"a": 1}, "", b"abc"], ids=repr
)
@pytest.mark.parametrize("column", COLUMNS)
def test_a_value_that_is_none_is_one_error_that_names_row_and_column(served, pictures, column, value):
    good = {"image": str(pictures[0]), "caption": TEXT}
    bad = {**good, column: value}
    with pytest.raises(DataError, match=f"^row 2, {column}") as raised:
        served.predict(frame([good, good, bad, good]))
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 250
    with pytest.raises(DataError, match=rf"^2 rows cannot be scored\n  row 0, {column}.*\n  row 1, {column}"):
        served.predict(frame([bad, bad]))
    assert served.predict(frame([good])).shape == (1,)


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_of_missing_values_alone_is_named(served, pictures, column):
    good = {"image": str(pictures[0]), "caption": TEXT}
    with pytest.raises(DataError, match=rf"^2 rows cannot be scored\n  row 0, {column}.*None"):
        served.predict([{**good, column: None}] * 2)
    with pytest.raises(DataError, match=f"^row 1, {column}.*<NA>"):
        served.predict(pd.DataFrame([good, {**good, column: None}]).astype("string"))
    with pytest.raises(
        MlflowException, match=f"Incompatible input types for column {column}"
    ):  # numbers, by its schema
        served.predict(pd.DataFrame([{**good, column: float("nan")}] * 2))


def test_columns_as_lists_are_as_many_rows(served, model, pictures):
    images, captions = [str(path) for path in pictures[:3]], [TEXT, "A dog.", TEXT]
    wanted = [model.similarity(image, text).item() for image, text in zip(images, captions, strict=True)]
    # MLflow makes one row of them, whose cells are lists.
    assert served.predict({"image": images, "caption": captions}) == pytest.approx(wanted, abs=1e-4)
    with pytest.raises(DataError, match="found 3 images and 2 captions; give as many of each"):
        served.predict({"image": images, "caption": captions[:2]})
    with pytest.raises(DataError, match="^row 1, caption: None"):
        served.predict({"image": images, "caption": [TEXT, None, TEXT]})


@pytest.mark.parametrize("weight", [float("nan"), 2, -0.1])
def test_a_weight_that_is_none_is_one_error(served, pictures, weight):
    with pytest.raises(DataError, match="^part_weight = .*: expected a number from 0 to 1$"):
        served.predict([{"image": str(pictures[0]), "caption": TEXT}], {"part_weight": weight})
