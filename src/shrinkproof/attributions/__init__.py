"""Open sets: candidate and images -> heat maps, how much each place counts for a class or a box."""

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

BOX_ATTRIBUTIONS: Final = Registry(
    "box attribution",
    "shrinkproof.box_attributions",
    {
        "drise": "shrinkproof.attributions.drise:DRise",
        "gradcam": "shrinkproof.attributions.box_gradcam:BoxGradCam",
        "hirescam": "shrinkproof.attributions.box_gradcam:BoxHiResCam",
    },
)
