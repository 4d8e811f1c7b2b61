"""Prints parameters and floating point operations of each part of a model, without building it."""

from benchmarks.costs import Part, exchange, model_parts
from benchmarks.measuring import load_settings, settings_parser
from caft.errors import ParamsError, exits_with_message
from caft.params import Params
from caft.params.problems import nearest
from caft.train.cost import sample_cost, step_flops

# Tokens of a text: one to three sentences, and one sentence, on average.
_LENGTHS = (45, 25)


def main() -> None:
    """Runs the command."""
    parser = settings_parser("counts", __doc__)
    parser.add_argument("--model", metavar="NAME", help="a key of models in params.yaml (the selected one)")
    arguments = parser.parse_args()
    with exits_with_message():
        params = load_settings(arguments)
        name = arguments.model or params.model
        if name not in params.models:
            raise ParamsError(f"--model {name}: no such key in models" + nearest(name, params.models))
        flair = load_settings(arguments, flair=True)
    print("\n".join([*page(params, name), *against_flair(params, flair, name)]))


def page(params: Params, name: str) -> list[str]:
    """Lines of the table and of the sums under it."""
    model, recipe = params.models[name], params.selected_recipe
    parts = model_parts(model, recipe.chunks)
    rows = [("part", "parameters", "fixed", "GFLOP", "of one"), *map(_row, parts)]
    sums = {
        "sum of vision": [part for part in parts if part.name.startswith("vision.")],
        "sum of all but superpixels": [part for part in parts if part.name != "superpixels"],
        "sum": parts,
    }
    for title, chosen in sums.items():
        rows.append((title, f"{sum(p.parameters for p in chosen):,}", f"{sum(p.fixed for p in chosen):,}", "", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    ranks = params.selected_launcher.world_size
    local = recipe.batch // ranks
    asked = {"sampled": ranks * (local + recipe.sub_captions - 1), "all": recipe.batch * recipe.sub_captions}
    work = sample_cost(model, recipe.chunks, recipe.sub_captions, asked[recipe.negatives])
    return [
        f"model {name}; texts of {model.text.context} tokens",
        *("  ".join([r[0].ljust(widths[0]), *map(str.rjust, r[1:4], widths[1:4]), r[4]]).rstrip() for r in rows),
        "",
        f"one training sample: {recipe.sub_captions} sub-captions, {asked[recipe.negatives]} texts that ask "
        f"({recipe.negatives}, batch {recipe.batch} on {ranks} ranks)",
        f"  forward GFLOP: superpixels {_giga(work.superpixels)}, vision {_giga(work.vision)}, "
        f"text {_giga(work.text)}, pooling {_giga(work.pooling)}",
        f"  forward and backward: {_giga(work.trained_step)} GFLOP",
    ]


def against_flair(params: Params, flair: Params, name: str) -> list[str]:
    """Lines on the step of the same batch by FLAIR: its model of this size, its texts, its exchange."""
    recipe, ranks = params.selected_recipe, params.selected_launcher.world_size
    images, count = recipe.batch // ranks, recipe.sub_captions
    model, other = params.models[name], flair.models[name]
    lines = ["", f"one step of {recipe.batch} images on {ranks} ranks, {count} texts an image, against FLAIR's:"]
    theirs = step_flops(other, flair.selected_recipe, images, ranks, [other.text.context] * images * count)
    for length in (model.text.context, *(length for length in _LENGTHS if length < model.text.context)):
        ours = step_flops(model, recipe, images, ranks, [length] * images * count)
        lines.append(
            f"  texts of {length} tokens: {ranks * ours / 1e12:.2f} TFLOP, FLAIR's (padded to {other.text.context}) "
            f"{ranks * theirs / 1e12:.2f}: {ours / theirs:.2f} of it"
        )
    embed = model.embed_dim
    sent = exchange(images, count, embed, ranks, 2)
    lines.append(
        f"  texts received by a rank, each way, in half precision: (R - 1) B (K + 1) D 2 = {ranks - 1} x {images} x "
        f"{count + 1} x {embed} x 2 bytes = {sent.unique / 2**20:.2f} MiB"
    )
    lines.append(
        f"  FLAIR's ring of selections: (R - 1) (B (B + K - 1) + B K) D 2 = {ranks - 1} x ({images} x "
        f"{images + count - 1} + {images * count}) x {embed} x 2 bytes = {sent.ring / 2**20:.2f} MiB"
        + (f": {sent.ring / sent.unique:.1f} times as many" if sent.unique else "")
    )
    return lines


def _row(part: Part) -> tuple[str, str, str, str, str]:
    work = (_giga(part.flops), part.unit) if part.flops else ("", "")
    return part.name, f"{part.parameters:,}", f"{part.fixed:,}" if part.fixed else "", *work


def _giga(flops: int) -> str:
    return f"{flops / 1e9:.4f}" if flops < 1e8 else f"{flops / 1e9:.2f}"


if __name__ == "__main__":
    main()
