"""Tables, indexes and weights of another version, of other data or of another size."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caft.data.crawl.fetch import ensure_indexed, fetch_images
from caft.data.tables.schema import URLS, open_table
from caft.data.training.index import build_index
from caft.digests import file_digest
from caft.errors import CheckpointError, DataError, ManifestError, SchemaError
from caft.network.vision.superpixels import SFCN
from caft.params import load_params
from caft.weights.files import fill, read_weights, save_model
from tests.bad_input.conftest import Corpus


def index(folder: Path) -> None:
    build_index(folder / "index", [{"name": "one"}], "spacy", folder / "captions", folder / "sentences")


def test_a_table_of_an_older_version_names_the_column_and_the_cure(corpus: Corpus) -> None:
    folder = corpus(["A bus."])
    path = folder / "captions/one/00000.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["offset", "size"]), path)
    message = r"captions/one/00000\.parquet: column offset is missing; column size is missing\..*run its stage again"
    with pytest.raises(SchemaError, match=message):
        index(folder)


def test_a_string_where_a_list_belongs_is_named(corpus: Corpus) -> None:
    folder = corpus(["A bus."])
    path = folder / "sentences/one/00000.parquet"
    table = pq.read_table(path)
    place = table.column_names.index("spacy_ids")
    pq.write_table(table.set_column(place, "spacy_ids", pa.array(["[[1, 2]]"])), path)
    message = (
        r"sentences/one/00000\.parquet: column spacy_ids is string, expected struct<raw: list<.*run its stage again"
    )
    with pytest.raises(SchemaError, match=message):
        index(folder)


@pytest.mark.parametrize("content", [b"", b"row_id,url\n1,http://a\n", b"PAR1" + bytes(20) + b"PAR1"])
def test_a_file_that_is_no_parquet_is_one_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "00000.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"00000\.parquet: is no whole Parquet file .*remove it and run `dvc repro`"):
        open_table(path, URLS)


def test_a_list_of_addresses_of_another_version_starts_no_fetch(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["http://127.0.0.1:9/"]}), tmp_path / "urls.parquet")
    settings = load_params("params.yaml").fetch
    with pytest.raises(SchemaError, match=r"urls\.parquet: column row_id is missing"):
        fetch_images("one", tmp_path / "urls.parquet", tmp_path / "images", settings, None)  # type: ignore[arg-type]
    assert not (tmp_path / "images/about").exists()


def test_an_index_of_other_images_than_the_manifest_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    path = Path("data/images/scenes.json")
    with pytest.raises(DataError, match=r"data/images/scenes\.json: not found; run `dvc repro fetch@scenes`"):
        ensure_indexed(params, "data/index", [{"name": "scenes", "manifest": "0" * 64}])
    path.parent.mkdir(parents=True)
    manifest = {"corpus": "scenes", "rows": 0, "successes": 0, "lost": {}, "source_fingerprint": "", "shards": []}
    path.write_text(json.dumps(manifest | {"fingerprint": file_digest(Path("/dev/null"))}))
    for found in ({"manifest": "0" * 64}, {}):  # of other images, and of a version that did not say
        with pytest.raises(ManifestError, match="data/index: was made from other images of scenes.*`dvc repro index`"):
            ensure_indexed(params, "data/index", [{"name": "scenes", **found}])
    ensure_indexed(params, "data/index", [{"name": "scenes", "manifest": file_digest(path)}])


def test_weights_of_another_size_are_listed(tmp_path: Path) -> None:
    save_model(SFCN((8, 16, 32, 64)), tmp_path / "sfcn.safetensors", {})
    other = SFCN((8, 16, 32, 65))
    with pytest.raises(
        CheckpointError, match=r"sfcn\.safetensors: \d+ weights do not fit the model\n.*found \("
    ) as caught:
        fill(other, read_weights(tmp_path / "sfcn.safetensors"), tmp_path / "sfcn.safetensors")
    assert "found (64,), expected (65,)" in str(caught.value)
