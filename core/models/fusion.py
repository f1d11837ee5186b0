"""Reading image features at points, and fusing them into point features."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.models.batch_norm import BatchNorm1d
from core.sparse import RowMap, mix_rows


class PointSampler:
    """Reads feature maps at the points' pixels: bilinear, aligned corners, border padding.

    Args:
        image_index: int64 [N], which image of the batch sees the point (-1: none, the feature is 0).
        pixel: float32 [N, 2] (u, v); -1 is the centre of the first pixel, +1 of the last. Finite.
    """

    def __init__(self, image_index: Tensor, pixel: Tensor):
        self._seen = (image_index >= 0)[:, None]
        self._image_index = image_index.int()
        self._place = ((pixel + 1) / 2).clamp(min=0)  # [N, 2], 0 is the first pixel, 1 the last
        self._maps: dict[tuple[int, int, int], RowMap] = {}

    def __call__(self, maps: Tensor) -> Tensor:
        """[B, C, h, w] -> [N, C], with gradient to the maps."""
        batch, channels, height, width = maps.shape
        rows = maps.permute(0, 2, 3, 1).reshape(-1, channels)  # no copy in channels-last layout
        key = (batch, height, width)
        if key not in self._maps:
            self._maps[key] = self._row_map(*key)
        return mix_rows(rows, self._maps[key])

    def _row_map(self, batch: int, height: int, width: int) -> RowMap:
        last = _last_pixel(height, width, self._place.device)
        place = torch.minimum(self._place * last, last)  # [N, 2] (x, y)
        lower = place.floor()
        upper = torch.minimum(lower + 1, last)
        share = place - lower
        x, y = torch.stack([lower, upper], 2).int().unbind(1)  # [N, 2] left and right, top and bottom
        first = (self._image_index * (height * width))[:, None, None]
        rows = (first + y[:, :, None] * width + x[:, None]).flatten(1)  # [N, 4], left and right run faster
        share_x, share_y = torch.stack([1 - share, share], 2).unbind(1)
        weights = (share_y[:, :, None] * share_x[:, None]).flatten(1) * self._seen
        total = batch * height * width
        anywhere = torch.arange(len(rows), dtype=torch.int32, device=rows.device)[:, None] % total  # spread, weight 0
        return RowMap.from_table(torch.where(self._seen, rows, anywhere), weights, total)


@lru_cache
def _last_pixel(height: int, width: int, device: torch.device) -> Tensor:
    """float32 [2], (x, y) of a map's last pixel. Kept, since copying it to a GPU makes the host wait."""
    return torch.tensor([width - 1.0, height - 1.0], device=device)


class PointConv(nn.Conv1d):
    """A 1×1 convolution over points, applied to rows [N, C] (its weight keeps the shape [out, in, 1])."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.squeeze(2), self.bias)


class ImageAttention(nn.Module):
    """Image features, weighted by one gate a point: how well they go with the point's own features."""

    def __init__(self, image_channels: int, point_channels: int):
        super().__init__()
        hidden = max(1, point_channels // 4)
        self.conv1 = nn.Sequential(PointConv(image_channels, point_channels), BatchNorm1d(point_channels), nn.ReLU())
        self.fc1 = nn.Sequential(BatchNorm1d(image_channels), nn.ReLU(), nn.Linear(image_channels, hidden))
        self.fc2 = nn.Linear(point_channels, hidden)
        self.fc3 = nn.Linear(hidden, 1)

    def forward(self, points: Tensor, image: Tensor) -> Tensor:
        """points [N, C], image [N, D] -> [N, C]."""
        gate = torch.sigmoid(self.fc3(torch.tanh(self.fc1(image) + self.fc2(points))))  # [N, 1]
        return self.conv1(image) * gate


class Fusion(nn.Module):
    """Point features [N, C] and image features [N, D] at the points -> fused point features [N, C]."""

    def __init__(self, image_channels: int, point_channels: int):
        super().__init__()
        self.ai_layer = ImageAttention(image_channels, point_channels)
        self.conv1 = PointConv(2 * point_channels, point_channels)
        self.bn1 = BatchNorm1d(point_channels)

    def forward(self, points: Tensor, image: Tensor) -> Tensor:
        attended = self.ai_layer(points, image)
        return F.relu(self.bn1(self.conv1(torch.cat([points, attended], 1))))
