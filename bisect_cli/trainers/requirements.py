"""Whether the training of the Mask R-CNN can run here. What it takes is looked for and not imported, so that the answer
comes at once.
"""

import importlib.util
import sys

PYTHONS = ((3, 9), (3, 11))  # the oldest and the newest that TensorFlow 2.15 has wheels for
INSTALL = "pip install 'maskrcnn-bisect[maskrcnn]'"
# What the extra [maskrcnn] brings beside the tool's own requirements, {module: what pip calls it}.
MODULES = {
    "tensorflow": "tensorflow",
    "tensorpack": "tensorpack",
    "pycocotools": "pycocotools",
    "cv2": "opencv-python-headless",
    "psutil": "psutil",
    "pkg_resources": "setuptools<81",  # which TensorBoard imports
}


def missing():
    """What is missing here, and how to get it, in a sentence; "" if nothing is."""
    oldest, newest = (".".join(map(str, version)) for version in PYTHONS)
    here = sys.version_info[:2]
    if not PYTHONS[0] <= here <= PYTHONS[1]:
        return (
            f"the Mask R-CNN trains on Python {oldest} to {newest}, and this is Python {here[0]}.{here[1]}: make an "
            f"environment with one of those, and in it {INSTALL}."
        )
    names = [MODULES[module] for module in absent()]
    if not names:
        return ""
    return f"to train the Mask R-CNN, install {_listed(names)} with: {INSTALL} (on Python {oldest} to {newest})."


def absent():
    """Those of MODULES that are not installed."""
    return [module for module in MODULES if importlib.util.find_spec(module) is None]


def _listed(names):
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
