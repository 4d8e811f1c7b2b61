"""Who rounds how: the settings, what processes inherit, and what is refused."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from caft.errors import ParamsError
from caft.params import arithmetic, load_params
from tests.portable.environment import without_arithmetic

PROJECT = Path(__file__).parents[2]
# Prints what a process that imports the network has.
REPORT = """
import os, sys
import caft.network
import numpy as np, torch
from numpy._core._multiarray_umath import __cpu_features__ as features
print(os.environ.get("CAFT_ARITHMETIC"), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), features["X86_V4"])
"""


def environment(**variables: str) -> dict[str, str]:
    """Nothing of this process's arithmetic, and these."""
    kept = without_arithmetic()
    kept.pop("MKL_NUM_THREADS", None)
    return {**kept, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "2", **variables}


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = environment(**variables)
    return subprocess.run([sys.executable, *command], cwd=PROJECT, env=environ, capture_output=True, text=True)


def test_the_tests_themselves_run_in_the_default_mode() -> None:
    assert arithmetic.current() == "portable"
    assert load_params(PROJECT / "params.yaml").selected_launcher.arithmetic == "portable"
    assert torch.backends.cpu.get_cpu_capability() == "AVX2"


def test_one_variable_is_enough_for_a_user() -> None:
    found = run("-c", REPORT, CAFT_ARITHMETIC="portable")
    assert found.stdout == "portable AVX2 1 False\n", found.stderr
    assert found.stderr == ""


def test_without_it_all_is_as_ever() -> None:
    found = run("-c", REPORT).stdout.split()
    assert (found[0], found[2]) == ("None", "2")


def test_a_stage_and_the_processes_that_it_starts_round_as_its_launcher_says(tmp_path: Path) -> None:
    children = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {REPORT!r}], check=True)"
    stage = f"import sys\nfrom pipelines.stage import prepare\nprepare('pipelines.train', sys.argv[1:])\n{children}"
    assert run("-c", stage).stdout == "portable AVX2 1 False\n"
    native = run("-c", stage, "--set", "launchers.local.arithmetic=native", CAFT_ARITHMETIC="portable").stdout
    assert native.startswith("native ") and native.split()[2] == "2"
    # Another stage's launcher is its own.
    own = tmp_path / "own.yaml"
    own.write_text("jobs: {report: one}\nlaunchers: {one: {base: local, arithmetic: native, tasks_per_node: 1}}")
    assert run("-c", stage.replace(".train", ".report"), "--overlay", str(own)).stdout.startswith("native ")
    assert run("-c", stage, "--overlay", str(own)).stdout.startswith("portable ")


def test_a_stage_prepares_before_it_imports_torch() -> None:
    found = run("-X", "importtime", "-m", "pipelines.train", "--help")
    names = [line.rpartition("|")[2].strip() for line in found.stderr.splitlines() if "|" in line]
    assert names.index("pipelines.stage") < names.index("numpy") and "torch" in names


@pytest.mark.parametrize("command", [("pipelines.train", "--dry-run"), ("caft", "info")])
def test_a_variable_that_says_otherwise_is_refused_with_the_remedy(command: tuple[str, ...]) -> None:
    found = run("-m", *command, ATEN_CPU_CAPABILITY="avx512", MKL_CBWR="AVX2", CAFT_ARITHMETIC="portable")
    assert found.returncode == 2 and found.stdout == ""
    assert found.stderr == (
        "error: ATEN_CPU_CAPABILITY=avx512, MKL_CBWR=AVX2 in the environment: arithmetic: portable needs "
        "ATEN_CPU_CAPABILITY=avx2, MKL_CBWR=COMPATIBLE; run `unset ATEN_CPU_CAPABILITY MKL_CBWR`, or do without: "
        "by arithmetic: native in the launcher's entry of params.yaml, or outside the pipeline by CAFT_ARITHMETIC=native\n"
    )


def test_a_variable_that_should_not_be_is_refused() -> None:
    found = run("-m", "pipelines.train", "--dry-run", NPY_ENABLE_CPU_FEATURES="AVX2")
    assert found.returncode == 2 and "needs no NPY_ENABLE_CPU_FEATURES; run `unset NPY_ENABLE_CPU" in found.stderr
    found = run("-m", "caft", "info", CAFT_ARITHMETIC="Portable")
    assert (found.returncode, found.stderr) == (
        2, "error: CAFT_ARITHMETIC=Portable in the environment: must be portable or native\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    "words", [("-um", "pipelines.params"), ("-mpipelines.params",), ("-X", "dev", "-m", "pipelines.params")]
)
def test_a_stage_is_found_however_python_is_called(words: tuple[str, ...]) -> None:
    found = run(*words, "--set", "launchers.local.arithmetic=native")
    assert found.returncode == 0 and "Traceback" not in found.stderr
    assert re.search(r"^launcher.arithmetic +native ", found.stdout, re.MULTILINE)


def test_a_stage_that_was_not_prepared_is_refused(tmp_path: Path) -> None:
    profiled = ("-m", "cProfile", "-o", str(tmp_path / "profile"), "-m", "pipelines.params")  # ends with 0 in any case
    found = run(*profiled)
    assert found.stdout == "" and "this process rounds in the native way" in found.stderr
    assert "launcher.arithmetic" in run(*profiled, CAFT_ARITHMETIC="portable").stdout
    found = run("-m", "pipelines.params", "--se", "launchers.local.arithmetic=native")
    assert found.returncode == 2 and "unrecognized arguments: --se" in found.stderr


def test_too_late_is_refused() -> None:
    found = run("-c", "import torch, caft.network", CAFT_ARITHMETIC="portable")
    assert "arithmetic: portable is asked for after torch and numpy had been imported" in found.stderr
    late = "import torch\nfrom caft.params import arithmetic\narithmetic.use('portable')"
    remedy = "start Python with CAFT_ARITHMETIC=portable, and import caft before them"
    assert remedy in run("-c", late).stderr
    assert run("-c", f"import caft\n{late}", CAFT_ARITHMETIC="portable").returncode == 0


def test_a_process_that_was_started_in_another_way_is_refused() -> None:
    with pytest.raises(
        ParamsError, match=r"arithmetic: native is asked for, but this process rounds in the portable way"
    ):
        arithmetic.expect("native")
    arithmetic.expect("portable")


def test_a_processor_without_avx2_is_told_and_rounds_natively(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (*arithmetic.SETTINGS, arithmetic.VARIABLE):
        monkeypatch.setenv(name, os.environ[name])  # to be put back
    monkeypatch.setattr(arithmetic, "_has_avx2", lambda: False)
    arithmetic.use("portable")
    assert capsys.readouterr().err == (
        "arithmetic: native, as this processor has no AVX2; results will differ from other machines'\n"
    )
    assert os.environ[arithmetic.VARIABLE] == "native" and not set(arithmetic.SETTINGS) & set(os.environ)
    arithmetic.expect("portable")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "launchers: {local: {gpus_per_node: 2}}",
            "launchers.local.arithmetic = portable: must be native where there are",
        ),
        (
            "launchers: {local: {compile: true}}",
            "launchers.local.compile = true: must be false where arithmetic is portable",
        ),
        (
            "launchers: {mine: {base: local}}",
            "launchers.mine: give arithmetic beside base: stages depend on this key of a",
        ),
        ("launchers: {local: {arithmetic: fast}}", "launchers.local.arithmetic = fast: "),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "over.yaml").write_text(text)
    with pytest.raises(ParamsError) as error:
        load_params(PROJECT / "params.yaml", [tmp_path / "over.yaml"])
    assert problem in str(error.value)


def test_what_changes_the_bits_names_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Threads and compiled steps do where arithmetic is native, and nowhere else."""
    from caft.train import launch

    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    np.save("data/excluded.npy", np.zeros(0, np.int64))

    def settings(text: str, mode: str) -> dict[str, object]:
        (tmp_path / "over.yaml").write_text(f"launchers: {{local: {{arithmetic: {mode}, {text}}}}}")
        monkeypatch.setenv(arithmetic.VARIABLE, mode)
        return launch._settings(load_params(PROJECT / "params.yaml", [tmp_path / "over.yaml"]))

    one = settings("cpus_per_task: 1", "portable")
    assert one["ranks"] == 2 and settings("tasks_per_node: 1", "portable")["ranks"] == 1
    # A run that two ranks began may go on with one, where that is asked for.
    assert settings("tasks_per_node: 1, ranks_of_run: 2", "portable") == one
    assert one["arithmetic"] == "portable" and "threads" not in one
    assert settings("cpus_per_task: 4, workers: 2", "portable") == one
    # Dropout is drawn for each portion of a rank's 24 images; a portion of all of them is none, and so with its tokens.
    assert settings("micro_batch: 12", "portable") == {**one, "micro_batch": 12}
    assert settings("micro_batch: 24", "portable") == settings("text_tokens_at_once: 20000", "portable") == one
    assert settings("text_tokens_at_once: 8192", "portable") == {**one, "text_tokens_at_once": 8192}
    native = settings("cpus_per_task: 1", "native")
    assert (native["arithmetic"], native["threads"]) == ("native", 1)
    assert settings("cpus_per_task: 4", "native")["threads"] == 4
    assert "threads" not in settings("cpus_per_task: 4, gpus_per_node: 2", "native")
    assert settings("compile: true", "native") == {**native, "compile": True} and "compile" not in native
    known = metadata.version
    assert native["packages"] == {name: known(name).split("+")[0] for name in ("torch", "numpy", "Pillow")}
    monkeypatch.setattr(metadata, "version", lambda name: "9.0.0+cpu" if name == "torch" else known(name))
    assert settings("cpus_per_task: 1", "native") != native  # another version of torch rounds otherwise
