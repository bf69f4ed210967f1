"""Networks as other programs write them: PyTorch modules of well-known kinds, with random weights and statistics."""

import torch
from torch import nn
from torch.nn import functional


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in evaluation mode, with weights and batch-norm statistics that none of its parts starts with."""
    torch.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias)
        elif isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight)
    return module.eval()


def lenet() -> nn.Module:
    """Of the kind of LeNet-5: average pools, and a softmax at the end."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(32, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, 10), nn.Softmax(dim=1)),
    )


class MiniONN(nn.Module):
    """Of the kind of MiniONN's networks for images: functional forms, max pools, and a view that asks for its shape."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 6, 3, bias=False)
        self.norm, self.fc = nn.BatchNorm2d(6), nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1((x - 0.5) / 0.25)), 2)
        x = self.norm(self.conv2(x)).relu()
        x = functional.max_pool2d(x, 2, ceil_mode=True)
        return functional.log_softmax(self.fc(x.view(x.size(0), -1)), dim=-1)


class Residual(nn.Module):
    """Of the kind of ResNet: shortcuts, one of them with a convolution, and a mean over the image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.body = nn.Sequential(
            *(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
            *(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)),
        )
        self.narrowed = nn.Sequential(nn.Conv2d(4, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8))
        self.shortcut = nn.Sequential(nn.Conv2d(4, 8, 1, 2, bias=False), nn.BatchNorm2d(8))
        self.fc = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(self.stem(x), 3, 2, 1)
        x = torch.relu(x + self.body(x))
        x = torch.relu(torch.add(self.shortcut(x), self.narrowed(x)))
        logits: torch.Tensor = self.fc(x.mean((2, 3)))
        return logits


class _Inverted(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        wide = 2 * channels
        self.block = nn.Sequential(
            *(nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(inplace=True)),
            *(nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()),
            *(nn.Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out)),
        )
        self.adds = stride == 1 and channels == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inside: torch.Tensor = self.block(x)
        return x + inside if self.adds else inside


def mobilenet() -> nn.Module:
    """Of the kind of MobileNetV2: inverted residual blocks with depthwise convolutions and ReLU6."""
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU6(), _Inverted(4, 4, 1), _Inverted(4, 6, 2)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(6, 10)),
    )


KINDS = {
    "lenet": (lenet, (1, 12, 12)),
    "minionn": (MiniONN, (1, 10, 10)),
    "residual": (Residual, (3, 16, 16)),
    "mobilenet": (mobilenet, (3, 16, 16)),
}
"""By name: what makes the module, and the shape of its images."""
