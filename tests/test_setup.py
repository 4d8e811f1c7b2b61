"""`make setup`: what it calls, in which order, and what of the shell's settings reaches it; the locks; the wheel.

Python is a stand-in here that writes down its calls: the installation itself is what continuous integration begins with.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-cpu.lock", "requirements-cuda.lock", "requirements-peers.lock")
STAND_IN = """\
#!/bin/bash
echo "$(basename "$(dirname "$(dirname "$0")")")" "$@" "user=$PIP_USER path=$PYTHONPATH from=$PIP_INDEX_URL" >> "$LOG"
case "$*" in
  "-m venv "*) mkdir -p "$3/bin"; [ -n "$KILLED" ] && { cp "$0" "$3/bin/python"; exit 1; }
    cp "$0" "$3/bin/python"; touch "$3/has_pip" ;;
  "-m pip --version") [ -e "$(dirname "$(dirname "$0")")/has_pip" ] ;;
  "-m pip index versions torch") echo "Available versions: 9.0, $OFFERED"
    sleep "${PAUSE:-0}"; echo "  LATEST: 9.0" || exit 1 ;;
  *find_spec*) [ -z "$ELSEWHERE" ] ;;
  "-c import sys; sys.exit(not (3, 11)"*) [ -z "$OTHER" ] ;;
  "--version") echo "Python 3.13.1" ;;
esac
"""


@pytest.fixture
def make(tmp_path):
    """Runs `make` in a copy of what it reads, with a Python that only writes down how it was called."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", *LOCKS):
        shutil.copy(PROJECT / name, folder)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    programs = tmp_path / "system/bin"
    programs.mkdir(parents=True)
    for name in ("python3.11", "pip"):
        (programs / name).write_text(STAND_IN)
        (programs / name).chmod(0o755)

    def run(*words, **variables):
        (tmp_path / "log").write_text("")
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "MAKE", "GIT_"))
        }
        environment = {**kept, "PATH": f"{programs}:{os.environ['PATH']}", "LOG": str(tmp_path / "log"), **variables}
        done = subprocess.run(["make", *words], cwd=folder, env=environment, capture_output=True, text=True)
        return done, (tmp_path / "log").read_text()

    run.folder = folder
    return run


def test_setup_installs_the_locks_by_the_new_environments_own_pip(make):
    done, log = make("setup", OFFERED="2.13.0+cpu, 2.13.0")
    assert done.returncode == 0, done.stderr
    installed = [line for line in log.splitlines() if "pip install" in line]
    assert [line.split(" user=")[0] for line in installed] == [
        ".venv -m pip install --quiet --no-compile --require-hashes --no-deps -r requirements.lock -r requirements-cpu.lock",
        ".venv -m pip install --quiet --no-deps --no-build-isolation -e .",
    ]
    assert make("setup")[1] == "", "a second call has nothing to do"
    assert make("setup", "TORCH=cpu")[1] == ""


def test_what_tests_compare_with_lies_beside_the_environment(make):
    done, log = make(".venv/peers/.installed")
    assert done.returncode == 0, done.stderr
    last = log.splitlines()[-1].split(" user=")[0]
    options = "--quiet --require-hashes --no-deps --target .venv/peers"
    assert last == f".venv -m pip install {options} -r requirements-peers.lock"
    assert make(".venv/peers/.installed")[1] == "", "a second call has nothing to do"


def test_another_build_of_torch_replaces_the_installed_one(make):
    make("setup", "TORCH=cpu")
    _, log = make("setup", "TORCH=cuda")
    calls = [line.split(" user=")[0] for line in log.splitlines()]
    removed = calls.index(".venv -m pip uninstall --quiet --yes torch")
    assert calls[removed + 1].endswith("-r requirements.lock -r requirements-cuda.lock")
    assert (make.folder / ".venv/.installed").read_text() == "cuda\n"
    assert make("setup", "TORCH=cuda")[1] == make("setup")[1] == ""


@pytest.mark.parametrize(
    ("words", "offered", "build"),
    [((), "2.13.0", "cuda"), (("TORCH=cuda",), "2.13.0+cpu", "cuda"), (("TORCH=cpu",), "2.13.0", "cpu")],
)
def test_the_build_of_torch_is_what_was_asked_for_or_is_there(make, words, offered, build):
    done, log = make("setup", *words, OFFERED=offered)
    assert f"-r requirements-{build}.lock" in log
    assert f"torch 2.13.0 for {build}" in done.stdout


def test_pip_may_take_its_time_to_say_all(make):
    """A reader that leaves once it has seen the build ends pip with an error, at times, and the build was the other one."""
    assert "torch 2.13.0 for cpu" in make("setup", OFFERED="2.13.0+cpu", PAUSE="1")[0].stdout


def test_what_the_shell_has_set_for_other_pythons_stays_outside(make):
    done, log = make(
        "setup", PYTHONPATH="/elsewhere", PIP_USER="1", PIP_TARGET="/there", PIP_INDEX_URL="http://mirror/simple"
    )
    assert done.returncode == 0, done.stderr
    assert {line.partition(" user=")[2] for line in log.splitlines()} == {"0 path= from=http://mirror/simple"}
    printed = "show: ; @env\n.PHONY: show\n"
    (make.folder / "Show.mk").write_text("include Makefile\n" + printed)
    seen, _ = make(
        "-f", "Show.mk", "show", PYTHONPATH="/elsewhere", PYTHONSAFEPATH="1", PIP_TARGET="/there", PIP_CERT="/c"
    )
    names = {line.split("=")[0] for line in seen.stdout.splitlines() if line.startswith(("PIP_", "PYTHON"))}
    assert names == {"PIP_USER", "PIP_CERT"}


def test_an_environment_that_was_left_half_made_is_made_anew(make):
    done, log = make("setup", KILLED="1")
    assert done.returncode != 0 and "install" not in log
    assert (make.folder / ".venv/bin/python").exists()
    (make.folder / ".venv/has_pip").touch()  # of which nobody knows whether it is whole
    done, log = make("setup")
    assert done.returncode == 0, done.stderr
    assert ".venv is not whole; making it anew" in done.stderr and "-m venv .venv" in log
    assert not (make.folder / ".venv/.unfinished").exists()

    (make.folder / ".venv/.installed").unlink()
    (make.folder / ".venv/has_pip").unlink()
    done, log = make("setup")
    assert done.returncode == 0 and "-m venv .venv" in log
    assert not any(line.startswith("system -m pip") for line in log.splitlines())


def test_an_environment_of_another_python_is_left_as_it_is(make):
    """As an editor makes one, of the system's newest."""
    make("setup", "TORCH=cpu")
    (make.folder / ".venv/.installed").unlink()
    (make.folder / ".venv/mine").touch()
    done, log = make("setup", OTHER="1")
    assert done.returncode != 0 and "pip install" not in log
    assert "setup: .venv is of Python 3.13.1, and this needs 3.11 or 3.12: move it away and run again" in done.stderr
    assert (make.folder / ".venv/mine").exists() and not (make.folder / ".venv/.installed").exists()


@pytest.mark.parametrize("kind", ["gone", "a link", "a file"])
def test_an_environment_whose_python_is_gone_is_made_anew_though_it_has_a_stamp(make, kind):
    make("setup", "TORCH=cpu")
    venv = make.folder / ".venv"
    if kind == "gone":
        (venv / "bin/python").unlink()
        (venv / "bin/python").symlink_to("/usr/bin/python3.0")
    else:
        shutil.rmtree(venv)
        venv.symlink_to("elsewhere") if kind == "a link" else venv.write_text("words")
    done, log = make("setup", "TORCH=cpu")
    assert done.returncode == 0, done.stderr
    assert "-m venv .venv" in log and (venv / ".installed").read_text() == "cpu\n"
    assert make("setup")[1] == ""


def test_git_is_looked_at_before_anything_is_installed(make):
    shutil.rmtree(make.folder / ".git")
    done, log = make("setup", GIT_CEILING_DIRECTORIES=str(make.folder.parent))
    assert done.returncode != 0 and log == ""
    assert "setup: dvc needs a git checkout, and git says: fatal: not a git repository" in done.stderr


def test_packages_that_went_elsewhere_are_no_installation(make):
    done, _ = make("setup", ELSEWHERE="1")
    assert done.returncode != 0 and "does a setting of pip put them elsewhere?" in done.stderr
    assert not (make.folder / ".venv/.installed").exists()


# ---- the locks


def locked(name):
    """Version, marker and hashes of each distribution in a lock file."""
    found = {}
    for entry in re.findall(r"^[a-z0-9].*(?:\n    --hash.*)*", (PROJECT / name).read_text(), re.M):
        requirement = Requirement(entry.split("\\")[0].strip())
        hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})", entry)
        found.setdefault(canonicalize_name(requirement.name), []).append((requirement, hashes))
    return found


def version_here(entries):
    """The version that a lock has for the Python that runs this."""
    (found,) = [r for r, _ in entries if r.marker is None or r.marker.evaluate()]
    return Version(str(found.specifier).removeprefix("=="))


@pytest.mark.parametrize("name", LOCKS)
def test_each_entry_is_one_version_with_hashes_and_no_place(name):
    entries = [entry for found in locked(name).values() for entry in found]
    assert entries
    for requirement, hashes in entries:
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)) and hashes and not requirement.url, requirement
    lines = [line for line in (PROJECT / name).read_text().splitlines() if not line.startswith("#")]
    assert not [line for line in lines if re.search(r"://|^-|^ (?!   --hash=)", line)]


def test_the_locks_satisfy_what_is_declared():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    found = {name: entry for lock in LOCKS for name, entry in locked(lock).items()}
    for line in [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            version = version_here(found[canonicalize_name(requirement.name)])
            assert requirement.specifier.contains(version), f"{line}: {version}; run `python .ci/lock.py`"


def test_the_locks_hold_what_the_installed_distributions_ask_for():
    """Whatever stands in a lock has its own requirements in it, too, less the one that lock.py overrides."""
    import importlib.metadata as metadata

    found = {**locked("requirements.lock"), **locked("requirements-cpu.lock")}
    for name in found:
        if not any(r.marker is None or r.marker.evaluate() for r, _ in found[name]):
            continue
        for line in metadata.requires(name) or []:
            asked = Requirement(line)
            if asked.marker is None or asked.marker.evaluate({"extra": ""}):
                if canonicalize_name(asked.name) != "dataclasses":
                    version = version_here(found[canonicalize_name(asked.name)])
                    assert asked.specifier.contains(version, prereleases=True), f"{name} asks for {line}: {version}"


def test_both_builds_of_torch_are_one_version():
    (cpu, hashes), (cuda, others) = (
        locked("requirements-cpu.lock")["torch"][0],
        locked("requirements-cuda.lock")["torch"][0],
    )
    assert cpu.specifier == cuda.specifier
    assert set(hashes) - set(others), "the CPU's builds for Linux are not PyPI's"
    assert {name for name in locked("requirements-cuda.lock") if name.startswith("nvidia-")}
    assert not [name for name in locked("requirements.lock") if re.match(r"torch|nvidia-|cuda-|triton", name)]


# ---- the wheel


def test_the_wheel_holds_caft_and_nothing_else(tmp_path):
    """All of its files that git knows, also those that are no Python; stages, jobs and benchmarks stay in the checkout."""
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=PROJECT, check=True, capture_output=True, text=True
    ).stdout.split()
    source = tmp_path / "source"
    for name in tracked:
        if (PROJECT / name).is_file() and not name.startswith(("tests/", "docs/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, source / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        ".",
    ]
    subprocess.run(command, cwd=source, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == {name for name in tracked if name.startswith("caft/") and (PROJECT / name).is_file()}
