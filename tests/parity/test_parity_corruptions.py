"""Our corruptions against the published algorithms, given the same random draws.

Two oracles: ``benchmarks/published_corruptions.py`` (the generator scripts step by step, with the
libraries that they use) for the presets cifar, tiny, imagenet and inception, and the installed
package imagecorruptions, run as it is but for its random functions, for its own preset.
"""

import importlib
import importlib.util
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shrinkproof.corruptions import constants
from shrinkproof.corruptions.apply import create
from shrinkproof.corruptions.presets import PRESETS, SETS
from shrinkproof.randomness import Streams

pytestmark = pytest.mark.parity

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NAMES = SETS["all-corruptions"]
EXACT = (0, 0.0)
TOLERANCE = {
    "gaussian_noise": EXACT,
    "shot_noise": EXACT,
    "impulse_noise": EXACT,
    "defocus_blur": (1, 1e-3),
    "glass_blur": (1, 3e-3),
    "motion_blur": (1, 1e-3),
    "zoom_blur": (1, 1e-4),
    "snow": (1, 1e-3),
    "frost": EXACT,
    "fog": (1, 1e-3),
    "brightness": EXACT,
    "contrast": (1, 1e-4),
    "elastic_transform": (1, 1e-4),
    "pixelate": EXACT,
    "jpeg_compression": EXACT,
    "speckle_noise": EXACT,
    "gaussian_blur": (1, 2e-3),
    "spatter": (1, 1e-4),
    "saturate": EXACT,
}
"""Largest difference in levels, and largest share of values that differ at all."""
COUNT = {"cifar": 6, "tiny": 3, "imagenet": 1, "inception": 1}


@pytest.fixture(scope="module")
def published():
    """The module of the published algorithms; it imports its constants from its own folder."""
    pytest.importorskip("skimage")
    pytest.importorskip(
        "wand.image", reason="ImageMagick 6 or Wand is absent", exc_type=ImportError
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
        return importlib.import_module("published_corruptions")


@pytest.fixture(scope="module")
def package():
    """The package imagecorruptions with the two keywords that today's libraries removed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pkg_resources is deprecated
        return pytest.importorskip("imagecorruptions", exc_type=ImportError)


@pytest.fixture(scope="module")
def photos():
    found = importlib.util.find_spec("imagecorruptions")
    if found is None:
        pytest.skip("imagecorruptions, which holds the frost photos, is absent")
    return Path(found.origin).parent / "frost"


def photo(count, height, width):
    """Parts of a photo, at the scale at which data sets of that size show things."""
    data = pytest.importorskip("skimage.data")
    whole = Image.fromarray(data.astronaut())
    edge = min(512, 2 * max(height, width) + 16)
    images = []
    for k in range(count):
        left, top = (37 + 61 * k) % (513 - edge), (11 + 83 * k) % (513 - edge)
        part = whole.crop((left, top, left + edge, top + edge))
        images.append(np.asarray(part.resize((width, height), Image.Resampling.BILINEAR)))
    return np.stack(images)


def drawn(corruption, images, severity, preset):
    index = 5 + np.arange(len(images))
    streams = Streams((3, "corruption", corruption.name, severity, preset), index)
    return corruption.draw(streams, images.shape[1:3], severity, preset)


def assert_near(result, expected, name, tolerance):
    off = np.abs(result.astype(int) - expected)
    levels, share = tolerance
    told = f"{name}: up to {off.max()} levels on {(off > 0).mean():.4%} of the values"
    assert off.max() <= levels, told
    assert (off > 0).mean() <= share, told


@pytest.mark.parametrize("preset", ["cifar", "tiny", "imagenet", "inception"])
@pytest.mark.parametrize("name", NAMES)
def test_constants_are_the_published_ones(published, name, preset):
    ours = getattr(constants, name.upper())[preset]
    theirs = published.CONSTANTS[name][preset]
    if name == "zoom_blur":
        theirs = tuple((len(np.arange(1, stop, step)), step) for stop, step in theirs)
    assert ours == theirs


def test_sizes_are_the_published_ones(published):
    sizes = {preset: size or 1 for preset, size in published.FROST_SIZE.items()}
    assert sizes == constants.FROST_SCALE
    assert {p: constants.FOG_MAP[p] for p in published.PLASMA_SIDE} == published.PLASMA_SIDE


def compare_with_scripts(published, photos, name, severity, preset):
    side = PRESETS[preset]
    images = photo(COUNT[preset], side, side)
    corruption = create(name, photos)
    draws = drawn(corruption, images, severity, preset)
    result = corruption.apply(images, severity, preset, draws)
    with np.errstate(all="ignore"):  # the scripts divide by nothing where no liquid is
        expected = np.stack(
            [
                published.published(
                    name,
                    Image.fromarray(image),
                    severity,
                    preset,
                    published.Injected({key: values[i] for key, values in draws.items()}),
                    photos=photos,
                )
                for i, image in enumerate(images)
            ]
        )
    assert_near(result, expected, f"{name} {preset} {severity}", TOLERANCE[name])
    assert (expected != images).any()


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("preset", ["cifar", "tiny", "imagenet"])
@pytest.mark.parametrize("name", NAMES)
def test_given_its_draws_it_is_the_published_algorithm(published, photos, name, preset, severity):
    compare_with_scripts(published, photos, name, severity, preset)


@pytest.mark.parametrize("name", NAMES)
def test_also_at_299_pixels(published, photos, name):
    compare_with_scripts(published, photos, name, 2, "inception")


def replace_randomness(patch, random, draws):
    """Let numpy's and scikit-image's random functions hand out our draws."""
    corner = iter(draws.get("corner", ()))

    def normal(loc=0.0, scale=1.0, size=None):
        if "noise" in draws:
            return random.noise(size, scale) + loc
        return random.layer(size, loc, scale)

    def uniform(low, high, size=None):
        if size is None:
            return random.angle(low, high)
        return random.field(size) * high if "field" in draws else random.plasma(high, size)

    def randint(low, high=None, size=None):
        if size is not None:
            return random.shift(high)
        return random.photo() if high is None else int(next(corner) * high)

    patch.setattr(np.random, "normal", normal)
    patch.setattr(np.random, "uniform", uniform)
    patch.setattr(np.random, "randint", randint)
    patch.setattr(np.random, "poisson", random.photons)
    patch.setattr(
        "skimage.util.random_noise",
        lambda x, mode, amount: random.salt_and_pepper(x, amount),
    )


def modernise(patch, package):
    """Give back two names that numpy 2 and scikit-image 0.25 took away."""
    gaussian = package.corruptions.gaussian

    def with_multichannel(x, *arguments, multichannel=False, **settings):
        axis = -1 if multichannel else None
        return gaussian(x, *arguments, channel_axis=axis, **settings)

    patch.setattr(package.corruptions, "gaussian", with_multichannel)
    patch.setattr(np, "float_", np.float64, raising=False)


def compare_with_package(published, package, photos, name, severity, images):
    preset = "imagecorruptions"
    corruption = create(name, photos)
    draws = drawn(corruption, images, severity, preset)
    result = corruption.apply(images, severity, preset, draws)
    expected = []
    for i, image in enumerate(images):
        own = {key: values[i] for key, values in draws.items()}
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old keywords of Pillow and scipy, 0 / 0 in spatter
            modernise(patch, package)
            replace_randomness(patch, published.Injected(own), own)
            corrupted = package.corrupt(image, severity=severity, corruption_name=name)
        expected.append(corrupted)
    told = f"{name} {preset} {severity} {images.shape[1:3]}"
    assert_near(result, np.stack(expected), told, TOLERANCE[name])


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("shape", [(32, 32), (48, 80), (112, 75)])
@pytest.mark.parametrize("name", NAMES)
def test_given_its_draws_it_is_imagecorruptions(published, package, photos, name, shape, severity):
    compare_with_package(published, package, photos, name, severity, photo(2, *shape))


@pytest.mark.parametrize("shape", [(320, 500), (200, 600), (700, 300), (640, 960)])
def test_frost_of_imagecorruptions_covers_images_larger_than_its_photos(
    published, package, photos, shape
):
    images = np.random.default_rng(0).integers(0, 256, (6, *shape, 3), dtype=np.uint8)
    compare_with_package(published, package, photos, "frost", 2, images)
