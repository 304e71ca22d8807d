"""Pictures of detections."""

import colorsys
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as mask_util

from maskrcnn.errors import UserError

OPACITY = 0.45  # of a mask
FONT = cv2.FONT_HERSHEY_SIMPLEX
TEXT_HEIGHT = (6, 16)  # pixels, on small and on large images


def draw(image, detections, names, threshold):
    """A copy of `image` [H,W,3] uint8 RGB with the masks, boxes, names (of labels 1..K) and scores of the detections
    whose score is at least `threshold`, the best on top."""
    canvas = np.array(image, np.uint8)
    shown = sorted((d for d in detections if d.score >= threshold), key=lambda d: d.score)
    for d in shown:
        inside = mask_util.decode(d.mask).astype(bool)
        canvas[inside] = np.rint((1 - OPACITY) * canvas[inside] + OPACITY * np.array(colour(d.label)))
    for d in shown:
        _draw_box(canvas, d.box, colour(d.label))
    for d in shown:
        _draw_text(canvas, d.box, f"{names[d.label - 1]} {d.score:.2f}", colour(d.label))
    return canvas


def colour(label):
    """The RGB colour of a label, by golden-section steps around the colour circle, so that neighbours differ."""
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.85, 1.0))


def _draw_box(canvas, box, rgb):
    """The outermost pixels whose centres lie in the box."""
    x1, y1, x2, y2 = np.ceil(np.array(box, float) - 0.5).astype(int).tolist()
    cv2.rectangle(canvas, (x1, y1), (max(x2 - 1, x1), max(y2 - 1, y1)), rgb, 1)


def _draw_text(canvas, box, text, rgb):
    """On a ground of the box's colour above the box, or in it where there is no room, and within the image."""
    height, width = canvas.shape[:2]
    scale = cv2.getFontScaleFromHeight(FONT, int(np.clip(min(height, width) // 40, *TEXT_HEIGHT)))
    (w, h), below = cv2.getTextSize(text, FONT, scale, 1)
    x = int(np.clip(np.floor(box[0]), 0, max(width - w, 0)))
    y = int(np.floor(box[1])) - below
    if y - h < 0:
        y = int(np.clip(np.ceil(box[1]), 0, height)) + h + 1
    cv2.rectangle(canvas, (x, y - h - 1), (x + w, y + below - 1), rgb, cv2.FILLED)
    dark_ground = np.dot(rgb, (0.299, 0.587, 0.114)) < 128
    cv2.putText(canvas, text, (x, y), FONT, scale, (255,) * 3 if dark_ground else (0,) * 3, 1, cv2.LINE_AA)


def write_png(path, image):
    """Writes `image` [H,W,3] uint8 RGB. Raises UserError if it cannot."""
    _, png = cv2.imencode(".png", np.ascontiguousarray(image[:, :, ::-1]))
    try:
        Path(path).write_bytes(png.tobytes())
    except OSError as e:
        raise UserError(f"cannot write the picture {path}: {e.strerror}.") from None
