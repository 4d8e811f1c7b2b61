"""Models by name from a hub: huggingface_hub's own client against a hub on this machine, and every failure."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

import caft
from caft.adapters.open_clip import create_model_and_transforms, get_tokenizer
from caft.data.look import look
from caft.errors import CheckpointError
from caft.eval.given import card_of, describe_weights, load_given
from caft.model.card_page import SCORES, render
from caft.model.command import main
from caft.model.model import Model
from caft.params import load_params
from caft.weights.files import save_model
from caft.weights.hub import fetch, of_setting, parse
from caft.weights.load import from_release
from caft.weights.start import path_of, start
from tests.hub_server import Hub, serving
from tests.peers import FOLDER, peer
from tests.test_pretrained import TINY, released_state
from tests.waiting import wait_until

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, and the client set to it: as its variables would, which it reads when it is imported."""
    constants = peer("huggingface_hub.constants")
    with serving() as found:
        for name, value in environment(found, tmp_path).items():
            monkeypatch.setenv(name, value)
        set_endpoint(monkeypatch, found.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home/hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home/token"))
        monkeypatch.setattr(
            constants, "HF_HUB_DISABLE_XET", True
        )  # its storage is another service; files go by Git LFS
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        yield found


def set_endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    constants = peer("huggingface_hub.constants")
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def environment(hub: Hub, folder: Path) -> dict[str, str]:
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "home"),
        "HF_TOKEN": "hf_of_this_test",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


@pytest.fixture(scope="module")
def ours(model: Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of a model, as they are pushed."""
    path = tmp_path_factory.mktemp("ours") / "model.safetensors"
    save_model(model.network, path, model.card)
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}


def problem(name: str, call: Callable[[str], object] = caft.load) -> str:
    with pytest.raises(CheckpointError) as raised:
        call(name)
    text = str(raised.value)
    assert len(text.splitlines()) <= 10 and name.partition(":")[2].partition("/")[0] in text
    return text


def by_hand(hub: Hub, repository: str, *files: str) -> list[str]:
    return [f"  {hub.url}/{repository}/resolve/main/{file}" for file in files]


def same(one: Model, other: Model) -> bool:
    theirs = other.network.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.network.state_dict().items())


# ---- names


@pytest.mark.parametrize("name", ["o/n", "o/n/f.pt", "o/n@v1/f.pt", "o/n@refs/pr/3/d/f.safetensors", "o/n@a%2Fb/f.pt"])
def test_a_name_has_the_parts_that_the_client_gives_it(name: str) -> None:
    theirs = peer("huggingface_hub.utils").parse_hf_uri(f"hf://{name}")
    for written in (f"hf:{name}", f"hf://{name}"):
        ours = parse(written)
        assert ours.repository == theirs.id and ours.revision == theirs.revision
        assert ours.file == (theirs.path_in_repo or "model.safetensors")
        assert str(ours) == f"hf:{name}"


@pytest.mark.parametrize(
    "name", ["hf:", "hf:n", "hf:o/", "hf:o/n@/f", "hf:o/n/../f.pt", "hf:o/n//f", "hf:o/n f", "o/n"]
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(CheckpointError, match="hf:OWNER/NAME"):
        parse(name)


# ---- loading


def test_a_model_of_ours_and_nothing_else_is_fetched_once(hub: Hub, ours: dict[str, bytes], model: Model) -> None:
    hub.repositories["me/tiny"] = {"main": {**ours, "README.md": b"page", "optimizer.pt": b"x" * 5000}}
    loaded = caft.load("hf:me/tiny")
    assert same(loaded, model) and loaded.card == model.card
    fetched = {line.rpartition("/")[2] for line in hub.asked if line.startswith("GET /me/tiny/resolve")}
    assert fetched == {"model.safetensors", "model.json"}
    hub.asked.clear()
    assert same(caft.load("hf:me/tiny"), model)
    assert not [line for line in hub.asked if "/resolve/" in line]


def test_a_file_of_the_authors(hub: Hub, tmp_path: Path) -> None:
    """As torch's file with the training's state, here of the small model's sizes, which the stages take from the settings."""
    state = {f"module.{name}": tensor for name, tensor in released_state(TINY).items()}
    torch.save({"epoch": 32, "name": "x", "state_dict": state, "optimizer": {"state": {}}}, tmp_path / "CAFT-30M.pt")
    hub.repositories["byeongju-woo/CAFT"] = {"main": {"CAFT-30M.pt": (tmp_path / "CAFT-30M.pt").read_bytes()}}
    name, params = "hf:byeongju-woo/CAFT/CAFT-30M.pt", load_params(PROJECT / "params.yaml")
    given = describe_weights(name)
    assert (given.name, given.kind, given.size) == ("CAFT-30M.pt", "caft_release", "30M")
    loaded = load_given(name, params, asdict(given))
    assert same(loaded, from_release(torch.load(tmp_path / "CAFT-30M.pt"), config=TINY))  # type: ignore[arg-type]
    sizes = problem(name)  # caft.load has no settings, and takes the published sizes
    assert sizes.startswith(f"{name}: ") and "shape" in sizes
    absent = "hf:byeongju-woo/CAFT: the repository has no file model.safetensors; name one of its weights: "
    assert problem("hf:byeongju-woo/CAFT") == absent + name


def test_a_training_starts_from_a_name_and_dvc_sees_what_is_there(
    hub: Hub, ours: dict[str, bytes], model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAFT_STORAGE", str(tmp_path / "storage"))
    hub.repositories["me/tiny"] = {"main": ours}
    params = load_params(PROJECT / "params.yaml", [], ["init=hf:me/tiny"])
    seen = tmp_path / "seen/init.json"

    def looked() -> dict:
        look(params, seen.parent, of_setting)
        return json.loads(seen.read_text())

    digest = hashlib.sha256(ours["model.safetensors"]).hexdigest()
    assert looked() == {"name": "model.safetensors", "sha256": digest}
    path = path_of(params)
    assert path is not None and path.read_bytes() == ours["model.safetensors"]
    weights, state = start(params, path).weights, model.network.state_dict()
    assert weights.keys() == state.keys() and all(torch.equal(weights[name], state[name]) for name in state)
    hub.repositories["me/tiny"]["main"] = {**ours, "model.safetensors": ours["model.safetensors"][:-1] + b"\1"}
    changed = looked()["sha256"]
    assert changed != digest
    shutil.rmtree(tmp_path / "home")  # another machine, without a way there: what was seen counts, and train says why
    hub.refuse["."] = (503, "")
    assert looked()["sha256"] == changed
    with pytest.raises(CheckpointError, match="the hub answered 503"):
        path_of(params)


def test_a_revision(hub: Hub, ours: dict[str, bytes], model: Model) -> None:
    other = {**ours, "model.json": ours["model.json"].replace(b'"chunks": 4', b'"chunks": 2')}
    hub.repositories["me/tiny"] = {"main": other, "v1": ours, "refs/pr/1": ours}
    assert parse("hf:me/tiny@v1").revision == "v1"
    for revision in ("v1", "refs/pr/1", hub.commit("me/tiny", "v1")):
        assert caft.load(f"hf:me/tiny@{revision}").card.chunks == 4
    assert fetch("hf:me/tiny@v1") == fetch("hf:me/tiny@refs/pr/1") != fetch("hf:me/tiny")
    text = problem("hf:me/tiny@v9")
    assert text == f"hf:me/tiny@v9: has no revision v9; {hub.url}/me/tiny/tree/main lists branches and tags"


def test_everywhere_a_model_is_named(
    hub: Hub, ours: dict[str, bytes], model: Model, pictures, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    hub.repositories["me/tiny-3M"] = {"main": ours}
    name, folder, picture = "hf:me/tiny-3M", str(pictures[0].parent), str(pictures[0])
    for arguments in (
        ["info", name],
        ["chunk", "A cat. It sleeps.", "--model", name],
        ["search", folder, "A red square.", "--model", name],
        ["ground", picture, "A red square.", "--model", name, "-o", str(tmp_path / "out.png"), "--json"],
    ):
        assert main(arguments) == 0, arguments
    assert "out.png" in capsys.readouterr().out
    clip, _, _ = create_model_and_transforms(name)
    assert same(Model(clip.network, clip.card), model)
    assert get_tokenizer(name)(["A cat. It sleeps."]).shape == (1, 4, 77)
    given = describe_weights(name)
    assert (given.name, given.kind, given.size) == ("tiny-3M", "caft", "3M")
    assert describe_weights(f"30M:{name}/model.safetensors").size == "30M"
    params = load_params(PROJECT / "params.yaml")
    scored = load_given(name, params, asdict(given))
    assert same(scored, model) and card_of(name, asdict(given), params) == scored.card  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_command_takes_the_clients_variables(hub: Hub, ours: dict[str, bytes], tmp_path: Path) -> None:
    """In a process of its own, where nobody has set the client's constants; then without network and offline."""
    hub.repositories["me/tiny"] = {"main": ours}
    script = "import sys; sys.path.append(sys.argv.pop(1)); from caft.__main__ import main; sys.exit(main())"

    def run(name: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, str(FOLDER), "chunk", "A cat. It sleeps.", "--model", name]
        variables = {**os.environ, **environment(hub, tmp_path), **more}
        return subprocess.run(command, env=variables, capture_output=True, text=True, cwd=PROJECT)

    assert (first := run("hf:me/tiny")).returncode == 0, first.stderr
    hub.asked.clear()
    offline = run("hf:me/tiny", HF_HUB_OFFLINE="1")
    assert offline.returncode == 0 and offline.stdout == first.stdout and not hub.asked
    absent = run("hf:me/other", HF_HUB_OFFLINE="1")
    assert absent.returncode == 2 and "error: hf:me/other: is not in the cache, and HF_HUB_OFFLINE" in absent.stderr
    assert absent.stderr.splitlines()[-2:] == by_hand(hub, "me/other", "model.safetensors", "model.json")


# ---- failures


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            (404, "RepoNotFound"),
            "there is no such repository at {url}, or it is private (404); check the name, or log in",
        ),
        (
            (401, "RepoNotFound"),
            "there is no such repository at {url}, or it is private (401); check the name, or log in",
        ),
        ((401, ""), "there is no such repository at {url}, or it is private (401); check the name, or log in"),
        (
            (403, "GatedRepo"),
            "may not be read (403); accept its conditions at {url}/me/x, and log in by `hf auth login`",
        ),
        ((403, ""), "may not be read (403)"),
        ((429, ""), "cannot be fetched from {url} (the hub answered 429); try again later, or fetch by hand"),
        ((500, ""), "cannot be fetched from {url} (the hub answered 500); try again later, or fetch by hand"),
        ((503, ""), "cannot be fetched from {url} (the hub answered 503); try again later, or fetch by hand"),
    ],
)
@pytest.mark.parametrize("at", ["/api/models/", "GET .*/resolve/"])
def test_what_a_hub_refuses(
    hub: Hub, answer: tuple[int, str], words: str, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client tries some again
    hub.repositories["me/x"] = {"main": {"model.safetensors": b"x" * 5000, "model.json": b"{}"}}
    hub.refuse[at] = answer
    text = problem("hf:me/x", fetch)
    assert text.startswith(f"hf:me/x: {words.format(url=hub.url)}")
    if "by hand" in words:
        assert text.splitlines()[1:] == by_hand(hub, "me/x", "model.safetensors", "model.json")
    hub.refuse.clear()
    assert fetch("hf:me/x").read_bytes() == b"x" * 5000


def test_what_is_not_there(hub: Hub, ours: dict[str, bytes]) -> None:
    hub.repositories["me/x"] = {"main": {"README.md": b"page", "config.json": b"{}"}}
    assert problem("hf:me/x/a.pt").endswith("has no file a.pt, and no other weights; it has README.md, config.json")
    hub.repositories["me/y"] = {"main": {"model.safetensors": ours["model.safetensors"]}}
    assert "has model.safetensors, but not its card model.json" in problem("hf:me/y")
    assert "is no name that a repository can have" in problem("hf:me--x/y")


def test_another_file_than_weights(hub: Hub, ours: dict[str, bytes]) -> None:
    hub.repositories["me/x"] = {
        "main": {**ours, "README.md": b"<!doctype html><p>page", "half.pt": b"PK" + b"x" * 2000}
    }
    assert "is a web page" in problem("hf:me/x/README.md")
    assert "is cut off or damaged" in problem("hf:me/x/half.pt")


def test_without_network_what_is_in_the_cache_is_used(
    hub: Hub, ours: dict[str, bytes], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["me/x"] = {"main": ours}
    fetch("hf:me/x")
    set_endpoint(monkeypatch, "http://127.0.0.1:9")  # where nobody listens
    peer("huggingface_hub").close_session()
    assert same(caft.load("hf:me/x"), model)
    text = problem("hf:byeongju-woo/CAFT@v1/CAFT-3M.pt")
    assert "cannot be fetched from http://127.0.0.1:9 (" in text and "check the network, or fetch by hand" in text
    assert "give it, as caft.load('CAFT-3M.pt')" in text
    assert text.splitlines()[-1] == "  http://127.0.0.1:9/byeongju-woo/CAFT/resolve/v1/CAFT-3M.pt"


def test_without_the_client_the_file_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(FOLDER)])
    for module in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
        monkeypatch.delitem(sys.modules, module)
    text = problem("hf:byeongju-woo/CAFT/CAFT-3M.pt")
    assert (
        "the package huggingface_hub is not installed; `pip install huggingface_hub` (the extra `hub`), or fetch"
        in text
    )
    assert text.splitlines()[-1] == by_hand(hub, "byeongju-woo/CAFT", "CAFT-3M.pt")[0]


@pytest.mark.slow
def test_half_a_download_is_never_used(hub: Hub, ours: dict[str, bytes], model: Model, tmp_path: Path) -> None:
    """A process is killed when half of the weights have come."""
    hub.repositories["me/x"] = {"main": ours}
    hub.stall = 12_000_000  # of 15; the client writes 10 million at a time
    script = f"import sys; sys.path.append({str(FOLDER)!r}); from caft.weights.hub import fetch; fetch('hf:me/x')"
    given = {**os.environ, **environment(hub, tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", script], env=given, cwd=PROJECT, stderr=subprocess.DEVNULL)
    assert hub.stalled.wait(300)
    wait_until(lambda: any(part.stat().st_size for part in (tmp_path / "home").rglob("*.incomplete")), 50, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    hub.stall = None
    hub.resume.set()
    assert not list((tmp_path / "home").rglob("model.safetensors"))
    hub.refuse["."] = (503, "")
    assert "cannot be fetched" in problem("hf:me/x")
    hub.refuse.clear()
    assert same(caft.load("hf:me/x"), model)


def test_content_that_is_not_the_hubs_is_refused(hub: Hub, ours: dict[str, bytes]) -> None:
    """The client compares sizes alone."""
    hub.repositories["me/x"] = {"main": ours}
    changed = bytearray(ours["model.safetensors"])
    changed[-1] ^= 1
    hub.served["model.safetensors"] = bytes(changed)
    assert "what was fetched is not what the hub has (sha256 is not" in problem("hf:me/x")


# ---- pushing


@pytest.fixture
def place(model: Model, tmp_path: Path) -> Path:
    path = tmp_path / "caft.safetensors"
    card = model.card.model_copy(update={"source": "/home/someone/CAFT-30M.pt", "references": ("A red square.",)})
    save_model(model.network, path, card)
    return path


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    folder = tmp_path / "metrics"
    folder.mkdir()
    level = {"i2t_r1": 12.345, "t2i_r1": 50.0}
    written = {
        "train": {"settings_digest": "0123456789abcdef"},
        "retrieval": {"random": {"pairs": 4, "tied_rows": 0, "whole": level}, "urban1k": {"absent": True}},
        "grounding": {"phrase": {"expressions": 3, "miou": 44.4, "pointing": None}},
        "regions": {"hard": 25.0},
    }
    for name, content in written.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_a_model_is_pushed_and_loads_by_its_name(hub: Hub, place: Path, metrics: Path, model: Model, capsys) -> None:
    command = ["push", str(place), "me/tiny", "--license", "mit", "--metrics", str(metrics)]
    assert main([*command, "--dry-run"]) == 0
    dry = capsys.readouterr().out
    assert not hub.asked
    assert main(command) == 0
    assert capsys.readouterr().out == f"{hub.url}/me/tiny/commit/{hub.commit('me/tiny', 'main')}\n"
    (lines,) = hub.sent
    sent = {line["value"]["path"] for line in lines if line["key"] != "header"}
    assert sent == {"README.md", "model.safetensors", "model.json"} and not hub.private
    held = hub.repositories["me/tiny"]["main"]
    assert held["model.safetensors"] == place.read_bytes()  # byte for byte
    assert b"/home/someone" not in held["model.json"] + held["README.md"]
    loaded = caft.load("hf:me/tiny")
    assert same(loaded, model) and loaded.card.source == "CAFT-30M.pt" and loaded.card.references == ("A red square.",)
    for name in sent:
        assert f"  {name}  {len(held[name]):,} bytes" in dry
    assert held["README.md"].decode() in dry


def test_the_page_is_as_the_hub_reads_it(hub: Hub, place: Path, metrics: Path, tmp_path: Path) -> None:
    """Read by the client, which knows what the hub takes for a model-index."""
    assert main(["push", str(place), "me/tiny", "--license", "mit", "--metrics", str(metrics)]) == 0
    page = tmp_path / "README.md"
    page.write_bytes(hub.repositories["me/tiny"]["main"]["README.md"])
    card = peer("huggingface_hub").ModelCard.load(page)
    data = card.data
    assert (data.license, data.library_name, data.pipeline_tag) == ("mit", "caft", "zero-shot-image-classification")
    assert "arxiv:2602.02977" in data.tags and data.model_name == "tiny"
    found = [
        (one.task_type, one.dataset_name, one.metric_type, one.metric_name, one.metric_value)
        for one in data.eval_results
    ]
    assert found == [
        ("image-text-retrieval", "random", "recall", "image to text R@1, whole (%)", 12.35),
        ("image-text-retrieval", "random", "recall", "text to image R@1, whole (%)", 50.0),
        ("image-segmentation", "phrase", "mean_iou", "mIoU (%)", 44.4),
        ("zero-shot-image-classification", "regions-hard", "accuracy", "accuracy (%)", 25.0),
    ]
    assert data.metrics == ["accuracy", "mean_iou", "recall"]
    shown = {name: json.loads((metrics / f"{name}.json").read_text()) for name in SCORES}
    assert render(caft.load("hf:me/tiny").card, shown) in card.content
    assert "caft.load('hf:me/tiny')" in card.text


def test_private_and_again(hub: Hub, place: Path) -> None:
    command = ["push", str(place), "hf:me/tiny", "--license", "mit", "--private"]
    assert main(command) == 0 and hub.private == {"me/tiny"}
    hub.repositories["me/tiny"]["main"]["notes.txt"] = b"kept"
    assert main([*command[:-3], "--license", "other"]) == 0 and len(hub.sent) == 2
    held = hub.repositories["me/tiny"]["main"]
    assert held["notes.txt"] == b"kept" and b"license: other" in held["README.md"]


def test_scenes_alone_are_this_projects_licence_and_others_are_asked_for(hub: Hub, place: Path, capsys) -> None:
    assert main(["push", str(place), "me/tiny", "--dry-run"]) == 2
    assert "the licence of these weights is not recorded; give it with --license" in capsys.readouterr().err
    card = json.loads(place.with_suffix(".json").read_text())
    card["data"] = [{"name": "scenes", "count": 4000, "fingerprint": "a" * 64}]
    place.with_suffix(".json").write_text(json.dumps(card))
    assert main(["push", str(place), "me/tiny", "--dry-run"]) == 0
    assert "license: apache-2.0" in capsys.readouterr().out
    card["init"] = {"sha256": "b" * 64, "weights": "c" * 64}  # fine-tuned on scenes, from weights of unknown terms
    place.with_suffix(".json").write_text(json.dumps(card))
    assert main(["push", str(place), "me/tiny", "--dry-run"]) == 2
    assert "the licence of these weights is not recorded" in capsys.readouterr().err
    del card["init"]
    place.with_suffix(".json").write_text(json.dumps(card))
    assert main(["push", str(place), "me/tiny", "--license", "a: b", "--dry-run"]) == 2


def test_scores_of_another_model_are_refused(hub: Hub, place: Path, metrics: Path, capsys) -> None:
    command = ["push", str(place), "me/tiny", "--license", "mit", "--metrics", str(metrics), "--dry-run"]
    (metrics / "train.json").write_text('{"settings_digest": "another"}')
    assert main(command) == 2 and "scores of the model another, not of 0123456789abcdef" in capsys.readouterr().err
    (metrics / "train.json").unlink()
    assert main(command) == 2 and "nothing says whose scores these are" in capsys.readouterr().err
    (metrics / "weights.json").write_text(json.dumps({"sha256": "f" * 64}))
    assert main(command) == 2 and "scores of the weights ffff" in capsys.readouterr().err
    (metrics / "weights.json").write_text(json.dumps({"sha256": caft.digests.file_digest(place)}))
    assert main(command) == 0


@pytest.mark.parametrize(
    ("at", "answer", "words"),
    [
        ("create", (401, ""), "the hub at {url} does not let you write there (401); log in by `hf auth login`"),
        ("create", (403, ""), "the hub at {url} does not let you write there (403)"),
        ("commit", (403, ""), "the hub at {url} does not let you write there (403)"),
        ("create", (429, ""), "the hub answered 429 (a limit is reached"),
        ("commit", (507, ""), "the hub answered 507 (a limit is reached"),
        ("preupload", (500, ""), "cannot be sent to {url} (the hub answered 500"),
        ("validate-yaml", (400, ""), "cannot be sent to {url} (the hub answered 400"),
        ("PUT /upload", (503, ""), "cannot be sent to {url} (the hub answered 503"),
        ("commit", (503, ""), "cannot be sent to {url} (the hub answered 503"),
    ],
)
def test_what_a_hub_does_not_take(
    hub: Hub, place: Path, capsys, at: str, answer: tuple[int, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.refuse[at] = answer
    assert main(["push", str(place), "me/tiny", "--license", "mit"]) == 2
    error = capsys.readouterr().err
    assert f"error: hf:me/tiny: {words.format(url=hub.url)}" in error
    assert not hub.sent and set(hub.repositories.get("me/tiny", {}).get("main", {})) <= {".gitattributes"}


def test_weights_that_a_gitignore_keeps_out_are_missed(hub: Hub, place: Path, capsys) -> None:
    hub.repositories["me/tiny"] = {"main": {".gitignore": b"*.safetensors\n"}}
    hub.ignored.add("model.safetensors")
    assert main(["push", str(place), "me/tiny", "--license", "mit"]) == 2
    assert "hf:me/tiny: model.safetensors did not get there: a .gitignore in the repository" in capsys.readouterr().err


@pytest.mark.parametrize("to", ["me", "me/tiny/model.pt", "me/tiny@v1", "me//tiny", "me/ti ny"])
def test_no_place_to_push_to(place: Path, to: str, capsys) -> None:
    assert main(["push", str(place), to, "--license", "mit", "--dry-run"]) == 2
    assert "OWNER/NAME" in capsys.readouterr().err


def test_without_network_nothing_is_pushed(hub: Hub, place: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    set_endpoint(monkeypatch, "http://127.0.0.1:9")
    peer("huggingface_hub").close_session()
    assert main(["push", str(place), "me/tiny", "--license", "mit"]) == 2
    assert "error: hf:me/tiny: cannot be sent to http://127.0.0.1:9 (" in capsys.readouterr().err
