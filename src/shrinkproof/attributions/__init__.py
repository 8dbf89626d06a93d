"""Open set: candidate and images -> heat maps, how much each place counts for one class."""

from __future__ import annotations

from typing import Final

from shrinkproof.registry import Registry

ATTRIBUTIONS: Final = Registry(
    "attribution",
    "shrinkproof.attributions",
    {
        "eigencam": "shrinkproof.attributions.cam:EigenCam",
        "gradcam": "shrinkproof.attributions.cam:GradCam",
        "gradcam_plus_plus": "shrinkproof.attributions.cam:GradCamPlusPlus",
        "gradient_x_input": "shrinkproof.attributions.gradients:GradientTimesInput",
        "integrated_gradients": "shrinkproof.attributions.gradients:IntegratedGradients",
        "occlusion": "shrinkproof.attributions.occlusion:Occlusion",
        "rise": "shrinkproof.attributions.rise:Rise",
    },
)
