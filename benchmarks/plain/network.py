"""The network in the published order of work: image branch in contiguous layout, heads on whole maps, then sampling."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.plain.sparse import PlainConv3d, PlainCoordinates
from core.models import TwoBranchNetwork
from core.models.two_branch import Outputs
from core.sparse import Conv3d, SparseTensor


class PlainNetwork(TwoBranchNetwork):
    """The same modules and weights as `TwoBranchNetwork`; sparse convolution and sampling are plain."""

    def __init__(self, num_classes: int, **options: Any):
        super().__init__(num_classes, channels_last=False, **options)
        for module in self.modules():
            if isinstance(module, Conv3d):
                module.__class__ = PlainConv3d

    def forward(
        self,
        coords: Tensor,
        feats: Tensor,
        images: Tensor,
        image_index: Tensor,
        pixel: Tensor,
        coarser: Any = (),
    ) -> Outputs:
        assert self.projector2d is not None and self.projector3d is not None
        sample = PlainSampler(image_index, pixel)
        levels, image_map = self.pix_branch(self._prepare(images.flatten(0, 1)))
        coordinates: Any = PlainCoordinates(coords)
        features = self._point_branch(SparseTensor(feats, coordinates), levels, sample)
        x_pix, embedding_pix = sample(self.classifier_pix(image_map)), sample(self.projector2d(image_map))
        return Outputs(self.classifier_vox(features), x_pix, self.projector3d(features), embedding_pix, features)


class PlainSampler:
    """Reads maps [B, C, h, w] at the points by `grid_sample`, image by image -> [N, C]; 0 where no camera sees one."""

    def __init__(self, image_index: Tensor, pixel: Tensor):
        self.count, self.pixel = len(pixel), pixel
        self.rows = [(image_index == image).nonzero().squeeze(1) for image in range(int(image_index.max()) + 1)]

    def __call__(self, maps: Tensor) -> Tensor:
        out = torch.zeros(self.count, maps.shape[1], dtype=maps.dtype, device=maps.device)
        for image, rows in enumerate(self.rows):
            grid = self.pixel[rows][None, None].to(maps.dtype)
            sampled = F.grid_sample(maps[image : image + 1], grid, "bilinear", "border", align_corners=True)
            out = out.index_copy(0, rows, sampled[0, :, 0].t())
        return out
