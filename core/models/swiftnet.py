"""Image branch: SwiftNet (Orsic et al., CVPR 2019, single scale) on ResNet-18, with a stem of stride 1."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models.resnet import BasicBlock

from core.models.batch_norm import BatchNorm2d

STAGE_CHANNELS = (64, 128, 256, 512)
NECK_CHANNELS = 128
PYRAMID_GRIDS = (8, 4, 2)
PYRAMID_CHANNELS = 42
PYRAMID_BN_MOMENTUM = 0.012


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear with aligned corners."""
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


class NormReluConv(nn.Module):
    """BN-ReLU-convolution without bias, padded by k // 2."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, momentum: float = 0.1):
        super().__init__()
        self.norm = BatchNorm2d(in_channels, momentum=momentum)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.relu(self.norm(x), inplace=True))


class PyramidPooling(nn.Module):
    """Adds context from three grids to the deepest map: [B, 512, h, w] -> [B, 128, h, w]."""

    def __init__(self) -> None:
        super().__init__()

        def block(in_channels: int, out_channels: int) -> NormReluConv:
            return NormReluConv(in_channels, out_channels, momentum=PYRAMID_BN_MOMENTUM)

        layers: OrderedDict[str, nn.Module] = OrderedDict(spp_bn=block(STAGE_CHANNELS[3], NECK_CHANNELS))
        for i in range(len(PYRAMID_GRIDS)):
            layers[f"spp{i}"] = block(NECK_CHANNELS, PYRAMID_CHANNELS)
        layers["spp_fuse"] = block(NECK_CHANNELS + len(PYRAMID_GRIDS) * PYRAMID_CHANNELS, NECK_CHANNELS)
        self.spp = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = self._block("spp_bn", x)
        levels = [x]
        for i, grid in enumerate(PYRAMID_GRIDS):
            pooled = F.adaptive_avg_pool2d(x, (grid, max(1, round(width / height * grid))))
            levels.append(resize(self._block(f"spp{i}", pooled), (height, width)))
        return self._block("spp_fuse", torch.cat(levels, 1))

    def _block(self, name: str, x: Tensor) -> Tensor:
        return self.spp.get_submodule(name)(x)


class Upsample(nn.Module):
    """Brings the smaller map to the skip's size, adds the skip, blends."""

    def __init__(self, skip_channels: int):
        super().__init__()
        self.bottleneck = NormReluConv(skip_channels, NECK_CHANNELS)
        self.blend_conv = NormReluConv(NECK_CHANNELS, NECK_CHANNELS, kernel_size=3)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        skip = self.bottleneck(skip)
        return self.blend_conv(resize(x, (skip.shape[2], skip.shape[3])) + skip)


class SwiftNetResNet(nn.Module):
    """SwiftNet on a ResNet of basic blocks.

    Args:
        blocks: basic blocks in each of the four stages; (2, 2, 2, 2) is ResNet-18.

    Attributes:
        checkpoint_stem: compute the maps of full resolution again in the backward pass instead of keeping them.
    """

    out_channels = NECK_CHANNELS
    level_channels = (*STAGE_CHANNELS[:3], NECK_CHANNELS)

    def __init__(self, blocks: tuple[int, int, int, int] = (2, 2, 2, 2)):
        super().__init__()
        self.checkpoint_stem = False
        self.conv1 = nn.Conv2d(3, 64, 7, padding=3, bias=False)
        self.bn1 = BatchNorm2d(64)
        in_channels = 64
        for i, (channels, count) in enumerate(zip(STAGE_CHANNELS, blocks, strict=True)):
            self.add_module(f"layer{i + 1}", _stage(in_channels, channels, count, stride=1 if i == 0 else 2))
            in_channels = channels
        self.spp = PyramidPooling()
        self.upsample = nn.ModuleList(Upsample(channels) for channels in STAGE_CHANNELS[2::-1])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor, decode: bool = True) -> tuple[list[Tensor], Tensor | None]:
        """Args: images [B, 3, H, W]; whether the decoder runs.

        Returns the four encoder levels (64, 128, 256, 128 channels at 1/2, 1/4, 1/8, 1/16 of the size) and the
        decoder's output [B, 128, H/2, W/2], None without it.
        """
        x = self._checkpointed_stem(images) if self.checkpoint_stem else self._stem(images)
        levels = []
        for i in range(4):
            x = self.get_submodule(f"layer{i + 1}")(x)
            levels.append(x)
        levels[3] = x = self.spp(x)  # [B, 128, H/16, W/16]
        if not decode:
            return levels, None
        for block, skip in zip(self.upsample, levels[2::-1], strict=True):
            x = block(x, skip)
        return levels, x

    def _stem(self, images: Tensor) -> Tensor:
        x = self.bn1(self.conv1(images))  # [B, 64, H, W]
        # ReLU after the maximum is the ReLU before it, gradient included, on a quarter of the largest map
        return F.relu(F.max_pool2d(x, 3, stride=2, padding=1), inplace=True)  # [B, 64, H/2, W/2]

    @torch.compiler.disable  # a compiled function takes no context around what is computed again
    def _checkpointed_stem(self, images: Tensor) -> Tensor:
        return checkpoint(
            self._stem, images, use_reentrant=False, preserve_rng_state=False, context_fn=self._contexts_of_passes
        )

    def _contexts_of_passes(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(self.bn1)


@contextmanager
def _statistics_kept(norm: nn.Module) -> Iterator[None]:
    """Within it the running statistics are copies, which nobody reads."""
    kept = dict(norm.named_buffers())
    for name, value in kept.items():
        setattr(norm, name, value.clone())
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(norm, name, value)


def _stage(in_channels: int, channels: int, count: int, stride: int) -> nn.Sequential:
    """A stage of ResNet; only its first block changes size and channels."""
    downsample = None
    if stride != 1 or in_channels != channels:
        downsample = nn.Sequential(
            nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), BatchNorm2d(channels)
        )
    blocks = [BasicBlock(in_channels, channels, stride, downsample, norm_layer=BatchNorm2d)]
    blocks += [BasicBlock(channels, channels, norm_layer=BatchNorm2d) for _ in range(count - 1)]
    return nn.Sequential(*blocks)
