"""Where labeled images come from: one class per scheme of data references."""

from __future__ import annotations

from typing import Final

from shrinkproof.registry import Registry

DATA: Final = Registry(
    "data source",
    "shrinkproof.data",
    {
        "arrays": "shrinkproof.data.arrays:Arrays",
        "cifar10": "shrinkproof.data.cifar:Cifar10",
        "cifar100": "shrinkproof.data.cifar:Cifar100",
        "coco": "shrinkproof.data.coco:Coco",
        "digit-scenes": "shrinkproof.data.digit_scenes:DigitScenes",
        "digits": "shrinkproof.data.digits:Digits",
        "foreign": "shrinkproof.data.foreign:Foreign",
        "imagefolder": "shrinkproof.data.imagefolder:ImageFolder",
        "voc": "shrinkproof.data.voc:Voc",
    },
)
