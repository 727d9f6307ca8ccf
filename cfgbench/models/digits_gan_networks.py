"""The networks of the digits GAN: a generator, and the discriminator that it is trained against and then done without.

Images are (n, 1, 8, 8) in [-1, 1]. The discriminator judges image and label together by a projection (Miyato & Koyama
2018) and has spectral normalisation in every layer (Miyato et al. 2018).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from cfgbench.testbeds.digits_data import CLASSES, LATENT_SIZE

WIDE, NARROW = 64, 32  # channels
EMBEDDING = 32  # of the label, in the generator


class Generator(nn.Module):
    """Latents and labels to images by nearest-neighbour upsampling and convolution, 2 -> 4 -> 8. 82,273 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.label = nn.Embedding(CLASSES, EMBEDDING)
        self.first = nn.Linear(LATENT_SIZE + EMBEDDING, WIDE * 2 * 2)
        self.start = nn.BatchNorm2d(WIDE)
        self.grow1 = _upsampled(WIDE, WIDE)
        self.grow2 = _upsampled(WIDE, NARROW)
        self.refine = nn.Sequential(nn.Conv2d(NARROW, NARROW, 3, padding=1), nn.BatchNorm2d(NARROW), nn.ReLU())
        self.last = nn.Conv2d(NARROW, 1, 3, padding=1)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        """Images of latents z (n, 32), standard normal, and labels (n,) int64."""
        joined = torch.cat([z, self.label(label)], dim=1)
        h = functional.relu(self.start(self.first(joined).view(-1, WIDE, 2, 2)))
        images: Tensor = torch.tanh(self.last(self.refine(self.grow2(self.grow1(h)))))
        return images


class Discriminator(nn.Module):
    """How real an image looks for its label, unbounded; 8 -> 4 -> 2. 82,145 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *_judged(1, NARROW), *_judged(NARROW, NARROW, 2), *_judged(NARROW, WIDE), *_judged(WIDE, WIDE, 2)
        )
        self.features = spectral_norm(nn.Linear(WIDE * 2 * 2, WIDE))
        self.score = spectral_norm(nn.Linear(WIDE, 1))
        self.label = spectral_norm(nn.Embedding(CLASSES, WIDE))

    def forward(self, images: Tensor, label: Tensor) -> Tensor:
        """Scores (n,) of images with labels (n,) int64."""
        features = functional.leaky_relu(self.features(self.convolutions(images).flatten(1)), 0.2)
        scores: Tensor = self.score(features)[:, 0] + (features * self.label(label)).sum(dim=1)
        return scores


def _upsampled(inputs: int, outputs: int) -> nn.Sequential:
    layers = (nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())
    return nn.Sequential(nn.Upsample(scale_factor=2), *layers)


def _judged(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    return [spectral_norm(nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)), nn.LeakyReLU(0.2)]
