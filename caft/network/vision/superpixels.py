"""Superpixels by a fully convolutional network (SFCN), learnt without labels.

For each pixel the network gives nine probabilities: that of belonging to the cell of the regular grid it lies in
(channel 4) and to the eight cells around it, row by row. Module and parameter names are the published checkpoint's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caft.network import gpu

# Mean of R, G and B that the published network subtracts from an image in [0, 1].
_MEAN = (0.411, 0.432, 0.45)


class SFCN(nn.Module):
    """U-Net that assigns pixels to the cells around them.

    Args:
        widths: Channels at each level; each level after the first halves the resolution. The published network
            has (16, 32, 64, 128, 256).
    """

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 128, 256)) -> None:
        super().__init__()
        self.levels = len(widths) - 1
        previous = 3
        for level, width in enumerate(widths):
            stride = 1 if level == 0 else 2
            self.add_module(f"conv{level}a", _convolution(previous, width, stride))
            self.add_module(f"conv{level}b", _convolution(width, width))
            previous = width
        for level in reversed(range(self.levels)):
            fine, coarse = widths[level], widths[level + 1]
            up = nn.Sequential(nn.ConvTranspose2d(coarse, fine, 4, stride=2, padding=1), nn.LeakyReLU(0.1))
            self.add_module(f"deconv{level}", up)
            self.add_module(f"conv{level}_1", _convolution(2 * fine, fine))
        self.pred_mask0 = nn.Conv2d(widths[0], 9, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, a=0.1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Assigns pixels.

        Args:
            images: RGB in [0, 1], (B, 3, H, W); sides are multiples of two to the number of halvings.

        Returns:
            Probabilities (B, 9, H, W), summing to one over the nine cells.
        """
        mean = gpu.constants(_MEAN, images.dtype, images.device)[:, None, None]
        features = images - mean
        skips = []
        for level in range(self.levels + 1):
            features = self._run(f"conv{level}b", self._run(f"conv{level}a", features))
            skips.append(features)
        for level in reversed(range(self.levels)):
            raised = self._run(f"deconv{level}", features)
            features = self._run(f"conv{level}_1", torch.cat([skips[level], raised], dim=1))
        return self.pred_mask0(features).softmax(1)

    def _run(self, name: str, features: Tensor) -> Tensor:
        return self.get_submodule(name)(features)


def _convolution(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.LeakyReLU(0.1),
    )


def hard_labels(prob: Tensor, cell: int) -> Tensor:
    """Superpixel of each pixel: the cell of its largest probability.

    A cell outside the image stands for the border cell, as in the published code; a tie goes to the lowest channel
    (the published code sums the tied ids there, a known mistake).

    Args:
        prob: Probabilities, (B, 9, H, W).
        cell: Side of a cell in pixels; divides H and W.

    Returns:
        Ids row * columns + column, (B, H, W), int64.
    """
    _, _, height, width = prob.shape
    best = prob.argmax(1)  # (B, H, W)
    rows = torch.arange(height, device=prob.device)[:, None] // cell + best // 3 - 1
    columns = torch.arange(width, device=prob.device)[None] // cell + best % 3 - 1
    rows = rows.clamp(0, height // cell - 1)
    return rows * (width // cell) + columns.clamp(0, width // cell - 1)


def pool(features: Tensor, prob: Tensor, cell: int) -> Tensor:
    """Soft mean of features over each superpixel; mass sent outside the image is dropped.

    Features (B, C, H, W) and probabilities (B, 9, H, W) give means (B, C, H / cell, W / cell).
    """
    ones = torch.ones_like(features[:, :1])
    values = _to_cells(torch.cat([features, ones], dim=1), cell)  # (B, h, w, cell^2, C + 1)
    sums = _to_cells(prob, cell).transpose(3, 4) @ values  # (B, h, w, 9, C + 1)
    rows, columns = sums.shape[1:3]
    shifted = [F.pad(sums[:, :, :, k], (0, 0, k % 3, 2 - k % 3, k // 3, 2 - k // 3)) for k in range(9)]
    total = torch.stack(shifted).sum(0)[:, 1 : rows + 1, 1 : columns + 1]  # (B, h, w, C + 1)
    return (total[..., :-1] / (total[..., -1:] + cell * cell * 1e-8)).permute(0, 3, 1, 2)


def unpool(pooled: Tensor, prob: Tensor, cell: int) -> Tensor:
    """Spreads superpixel features back to pixels; cells outside the image contribute zero.

    Features (B, C, h, w) and probabilities (B, 9, h * cell, w * cell) give features (B, C, h * cell, w * cell).
    """
    rows, columns = pooled.shape[2:]
    padded = F.pad(pooled, (1, 1, 1, 1))
    around = [padded[:, :, k // 3 : k // 3 + rows, k % 3 : k % 3 + columns] for k in range(9)]
    neighbours = torch.stack(around, dim=-1).permute(0, 2, 3, 4, 1)  # (B, h, w, 9, C)
    pixels = _to_cells(prob, cell) @ neighbours  # (B, h, w, cell^2, C)
    pixels = pixels.unflatten(3, (cell, cell)).permute(0, 5, 1, 3, 2, 4)  # (B, C, h, cell, w, cell)
    return pixels.flatten(4, 5).flatten(2, 3)


def _to_cells(features: Tensor, cell: int) -> Tensor:
    """(B, C, H, W) to (B, h, w, cell^2, C)."""
    cells = features.unflatten(3, (-1, cell)).unflatten(2, (-1, cell))  # (B, C, h, cell, w, cell)
    return cells.permute(0, 2, 4, 3, 5, 1).flatten(3, 4)


def pixel_positions(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Coordinates of pixels, x first, (2, height, width), float32."""
    rows = torch.arange(height, dtype=torch.float32, device=device)
    columns = torch.arange(width, dtype=torch.float32, device=device)
    return torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)])


def rgb_to_lab(images: Tensor) -> Tensor:
    """CIELAB of sRGB images under D65: RGB in [0, 1], (B, 3, H, W), to L in [0, 100], a and b, (B, 3, H, W)."""
    linear = torch.where(images > 0.04045, ((images + 0.055) / 1.055).clamp(min=0) ** 2.4, images / 12.92)
    to_xyz = images.new_tensor(
        [
            [0.412453, 0.357580, 0.180423],
            [0.212671, 0.715160, 0.072169],
            [0.019334, 0.119193, 0.950227],
        ]
    )
    white = images.new_tensor([0.95047, 1.0, 1.08883])
    xyz = torch.einsum("ij,bjhw->bihw", to_xyz, linear) / white[:, None, None]
    cube = torch.where(xyz > 0.008856, xyz.clamp(min=1e-6) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = cube.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def reconstruction_loss(images: Tensor, prob: Tensor, cell: int, position_weight: float) -> Tensor:
    """Label-free loss: how well superpixel means give back colour and position.

    The mean over pixels of the distance in CIELAB (over 100), plus position_weight / cell times that in pixels:
    the published network's SLIC variant, with means for sums.

    Args:
        images: RGB in [0, 1], (B, 3, H, W).
        prob: Probabilities, (B, 9, H, W).
        cell: Side of a cell in pixels.
        position_weight: m of m / S; larger gives more compact superpixels.

    Returns:
        A scalar.
    """
    colour = rgb_to_lab(images) / 100
    positions = pixel_positions(images.shape[2], images.shape[3], images.device).expand(len(images), -1, -1, -1)
    given = torch.cat([colour, positions.to(colour.dtype)], dim=1)
    difference = unpool(pool(given, prob, cell), prob, cell) - given
    # The floor keeps the gradient of the norm finite where a pixel is matched exactly.
    distance = difference.square()
    colour_distance = (distance[:, :3].sum(1) + 1e-12).sqrt().mean()
    position_distance = (distance[:, 3:].sum(1) + 1e-12).sqrt().mean()
    return colour_distance + position_weight / cell * position_distance
