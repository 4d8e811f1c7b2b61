"""What of a training step is compiled: regions of few shapes, each one graph."""

import copy
from collections.abc import Callable
from typing import cast

import torch
import torch.compiler.config
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from caft.loss import part_tiles
from caft.network.caft import CAFT
from caft.network.vision.encoder import HierarchicalVisionEncoder
from caft.network.vision.superpixels import SFCN, hard_labels
from caft.train.task import TrainingTask


def compile_task(task: TrainingTask) -> None:
    """Compiles the step's regions when they are first used: stem, blocks of each stage, poolings, texts, part loss.

    The weights keep their names. Shapes are those of the batch, but for the number of texts and of their tokens, for which
    one graph is made with any number; so nothing is compiled again after the first steps.
    """
    apart_by_processor()
    vision = task.model.vision
    _compile(task.model, "stem", dynamic=False)
    if isinstance(vision, HierarchicalVisionEncoder):
        for blocks in vision.stages:
            blocks.compile(dynamic=False)
        for pool in vision.pools:
            _compile(pool, "group", dynamic=False)
    else:
        vision.blocks.compile(dynamic=False)
    _compile(task.model.sub_caption, "through", dynamic=True)
    if task.model.whole_caption is not None:
        task.model.whole_caption.compile(dynamic=False)
    part_tiles.compile_tiles()


def apart_by_processor() -> None:
    """Has torch keep compiled code of each kind of processor apart.

    torch 2.13 takes what it has compiled for AVX-512 from its cache for AVX2 too, and the other way round: such code adds
    up some of the elements, or some twice. A home folder that several sorts of nodes share would be enough.
    """
    torch.compiler.config.cache_key_tag = torch.backends.cpu.get_cpu_capability()


def _compile(module: nn.Module, method: str, dynamic: bool) -> None:
    setattr(module, method, torch.compile(getattr(module, method), dynamic=dynamic))


def fast_labels(model: CAFT, half: torch.dtype | None) -> Callable[[Tensor], Tensor]:
    """Superpixels of images on a GPU as `CAFT.superpixel_labels`, by a compiled copy of the network.

    Its batch norms are folded into the convolutions. In half precision numbers are fp16, which has the ten bits that a
    GPU's convolutions of float32 keep by default too.

    Args:
        model: With its final superpixel network.
        half: Half precision of the training, None for float32.
    """
    assert model.superpixels is not None and model.config.superpixels is not None
    dtype, cell = torch.float32 if half is None else torch.float16, model.config.superpixels.cell
    network = folded(model.superpixels).to(dtype)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def labels(pixels: Tensor) -> Tensor:
        with torch.autocast(pixels.device.type, enabled=False):
            prob = network((pixels.to(dtype) / 255).contiguous(memory_format=torch.channels_last))
        return hard_labels(prob, cell)

    return cast(Callable[[Tensor], Tensor], torch.compile(labels, dynamic=False))


def folded(network: SFCN) -> SFCN:
    """A copy whose convolutions do what their batch norms did."""
    network = copy.deepcopy(network).eval()
    for name, layers in list(network.named_children()):
        if isinstance(layers, nn.Sequential) and isinstance(layers[1], nn.BatchNorm2d):
            setattr(network, name, nn.Sequential(fuse_conv_bn_eval(cast(nn.Conv2d, layers[0]), layers[1]), layers[2]))
    return network
