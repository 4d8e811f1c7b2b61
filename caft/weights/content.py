"""Says what a file is that was given as weights and is none: a folder, a web page, a picture, a pointer, half a file."""

import errno
import json
import stat
import zipfile
from pathlib import Path

from caft.errors import CheckpointError

_FETCH = "fetch the file of weights itself"
# Begins as, is, and what to do.
_BEGINNINGS = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the file", "run `git lfs pull` in its repository"),
    (b"\xff\xd8\xff", "is a JPEG picture", "give a file of weights; pictures are other arguments"),
    (b"\x89PNG", "is a PNG picture", "give a file of weights; pictures are other arguments"),
    (b"GIF8", "is a GIF picture", "give a file of weights; pictures are other arguments"),
    (b"%PDF", "is a PDF document", _FETCH),
    (b"\x1f\x8b", "is compressed by gzip", "unpack it (gunzip, or tar xzf) and give what is in it"),
    (b"BZh", "is compressed by bzip2", "unpack it (bunzip2, or tar xjf) and give what is in it"),
    (b"\xfd7zXZ", "is compressed by xz", "unpack it (unxz, or tar xJf) and give what is in it"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd", "unpack it (unzstd) and give what is in it"),
    (b"7z\xbc\xaf", "is a 7z archive", "unpack it and give what is in it"),
    (b"\x93NUMPY", "is an array of numpy", "give a file of weights"),
    (b"\x89HDF", "is an HDF5 file", "give weights of torch"),
    (b"GGUF", "is a GGUF file", "give weights of torch"),
)
_MARKUP = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<svg", b"<")


def require_weights(path: Path, safetensors: bool) -> None:
    """Refuses a file that cannot be weights; one that is not there is left to the caller.

    Args:
        path: The file.
        safetensors: Whether it is read as safetensors; else as torch's checkpoint.

    Raises:
        CheckpointError: Says what it is, and what to do.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise CheckpointError(f"{path}: is a folder, not a file of weights; {_in_folder(path)}")
        if not stat.S_ISREG(mode):
            raise CheckpointError(
                f"{path}: is no regular file (a pipe or a device); give the path of a file of weights"
            )
        with path.open("rb") as file:
            beginning = file.read(512)
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            shown = f"{str(path)[:80]!r}"
            raise CheckpointError(
                f"{shown}: no file can have such a name; give the path of a file of weights"
            ) from None
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check its rights and the disk") from None
    if not beginning:
        raise CheckpointError(f"{path}: is empty (0 bytes); {_FETCH} again")
    if found := _other(path, beginning, safetensors):
        what, _, remedy = found.partition("; ")
        form = "safetensors" if safetensors else "a torch checkpoint"
        raise CheckpointError(f"{path}: cannot be read as {form} (it {what}); {remedy}")


def _other(path: Path, beginning: bytes, safetensors: bool) -> str | None:
    for start, what, remedy in _BEGINNINGS:
        if beginning.startswith(start):
            return f"{what}; {remedy}"
    if beginning.startswith(b"RIFF") and beginning[8:12] == b"WEBP":
        return "is a WebP picture; give a file of weights; pictures are other arguments"
    text = beginning.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_MARKUP):
        return "is a web page, not the file (a download that asks for a login or a click gives one); fetch it again"
    if text.startswith((b"{", b"[")):
        return _json(path)
    if beginning.startswith(b"PK"):
        return _zip(path, safetensors)
    size, total = _safetensors_sizes(path, beginning)
    if safetensors:
        if total is None or size >= total:
            return None
        more = "" if size >= 8 + _head(beginning) else "more than "  # of half a head, the sizes behind it are unknown
        return f"is not a whole file, {size:,} of {more}{total:,} bytes are there; fetch it again"
    if total is not None:
        return "holds safetensors; rename it so that it ends in .safetensors, with its card beside it as .json"
    return None


def _in_folder(path: Path) -> str:
    files = sorted(entry for entry in path.iterdir() if entry.is_file())
    names = [file.name for file in files]
    if any(name.endswith(".index.json") for name in names):
        return "its weights are spread over several files (.index.json); load and save them as one file where they were made"
    if (path / "zero_to_fp32.py").exists() or any(path.glob("*/zero_pp_rank_*")) or any(path.glob("zero_pp_rank_*")):
        return "it is DeepSpeed's; its zero_to_fp32.py makes one file, which can be given"
    if (path / "MLmodel").exists():
        return "it is a model of MLflow's; give data/model.safetensors in it, or use mlflow.pyfunc.load_model"
    likely = [file for file in files if file.suffix in (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar")]
    return f"give the file in it, such as {likely[0]}" if likely else "give the path of a file"


def _json(path: Path) -> str:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        content = None
    if isinstance(content, dict) and "weight_map" in content:
        return (
            "is the index of weights that are spread over several files; load and save them as one where they were made"
        )
    if isinstance(content, dict) and "splitter" in content:
        return f"is a model's card; give the weights beside it, {path.with_suffix('.safetensors').name}"
    return "is a JSON text; give the file of weights"


def _zip(path: Path, safetensors: bool) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return f"is cut off or damaged, {path.stat().st_size:,} bytes of an archive without its end; fetch it again"
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        return (
            "is a TorchScript archive, a program; in the code that made it, save the weights alone: "
            "torch.save(model.state_dict(), 'weights.pt')"
        )
    if "data.pkl" not in inner:
        return f"is a zip archive of {_few(names)}, not torch's; unpack it and give the file of weights"
    return "is a torch checkpoint; rename it so that it ends in .pt" if safetensors else None


def _few(names: list[str]) -> str:
    return (", ".join(names[:3]) or "nothing") + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _safetensors_sizes(path: Path, beginning: bytes) -> tuple[int, int | None]:
    """Bytes that are there, and those that the head of a safetensors file says; None if it is none."""
    size = path.stat().st_size
    if len(beginning) < 9 or beginning[8:9] != b"{":
        return size, None
    length = _head(beginning)
    if length > 100_000_000:  # safetensors' own limit
        return size, None
    if 8 + length > size:
        return size, 8 + length
    with path.open("rb") as file:
        file.seek(8)
        try:
            head = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in head.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            return size, None
    return size, 8 + length + max(ends, default=0)


def _head(beginning: bytes) -> int:
    """Length of the head of a safetensors file, in bytes."""
    return int.from_bytes(beginning[:8], "little")
