"""Reads params.yaml with its overlays, and validates all of it before any work."""

import logging
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from caft.params.bases import problems as of_bases
from caft.params.bases import resolve
from caft.params.file import assigned, merge, read
from caft.params.problems import Problem, explain, report
from caft.params.rules import between_parts
from caft.params.settings import Params

logger = logging.getLogger(__name__)


def load_params(
    path: Path | str = "params.yaml", overlays: Sequence[Path | str] = (), values: Sequence[str] = ()
) -> Params:
    """Reads and validates the settings.

    Args:
        path: The file.
        overlays: Files merged over it one after the other, key by key.
        values: Single values set after these, as `train.batch=96`.

    Returns:
        The settings, selection and overrides resolved.

    Raises:
        ParamsError: Lists every problem with file, key, value, reason and the nearest valid name or value. Rules between
            parts of the file are looked at once each part is valid by itself.
    """
    content = read(Path(path))
    over = (
        *((str(overlay), read(Path(overlay))) for overlay in overlays),
        *((f"--set {value}", assigned(value)) for value in values),
    )
    for _, overlay in over:
        content = merge(content, overlay)
    found = [Problem(*problem) for problem in of_bases(content)]
    if not found:
        resolved = resolve(content)
        try:
            params = Params.model_validate(resolved)
            found = between_parts(params)
        except ValidationError as error:
            found = list(explain(Params, resolved, error))
    if found:
        raise report(str(path), over, content, found)
    params._content, params._overlays = content, over
    _warn(params)
    return params


def _warn(params: Params) -> None:
    """Logs what is allowed and rarely meant."""
    recipe = params.selected_recipe
    if recipe.samples is not None:
        recipe.warn_of_long_warmup(recipe.samples // recipe.batch)
    if recipe.precision != "float32" and params.selected_launcher.gpus_per_node == 0:
        logger.warning(
            "recipes.%s.precision = %s: launchers.%s has no GPU, so float32 is used",
            params.recipe,
            recipe.precision,
            params.launch,
        )
