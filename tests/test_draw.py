import cv2
import numpy as np
import pytest

from maskrcnn.detections import Detection, encode
from maskrcnn.draw import OPACITY, colour, draw, write_png
from maskrcnn.errors import UserError

NAMES = ("cat", "dog")
BOX = (20.0, 40.0, 50.0, 70.0)


def detection(score=0.9, label=1, box=BOX):
    mask = np.zeros((1, 100, 120), np.uint8)
    mask[0, 45:65, 25:45] = 1
    return Detection(1, label, score, box, encode(mask)[0])


@pytest.fixture
def image():
    return np.full((100, 120, 3), 100, np.uint8)


def test_mask_is_blended_box_is_drawn_and_the_rest_is_untouched(image):
    drawn = draw(image, [detection()], NAMES, 0.5)
    assert (image == 100).all()
    blended = np.rint((1 - OPACITY) * 100 + OPACITY * np.array(colour(1)))
    assert (drawn[45:65, 25:45] == blended).all()
    for edge in (drawn[40, 20:50], drawn[69, 20:50], drawn[40:70, 20], drawn[40:70, 49]):
        assert (edge == colour(1)).all()
    assert (drawn[41:45, 21:49] == 100).all()
    assert (drawn[70:] == 100).all() and (drawn[:20] == 100).all()


def test_the_text_is_above_the_box_and_stays_in_the_image(image):
    drawn = draw(image, [detection()], NAMES, 0.5)
    assert (drawn[28:39, 20:50] != 100).any()
    for box in ((0.0, 0.0, 119.0, 99.0), (110.0, 1.0, 140.0, 99.0), (-9.0, -9.0, 3.0, 3.0)):
        assert (draw(image, [detection(box=box)], NAMES, 0.5) != 100).any()


def test_only_detections_above_the_threshold_the_best_on_top(image):
    assert np.array_equal(draw(image, [detection(0.4)], NAMES, 0.5), image)
    assert np.array_equal(draw(image, [], NAMES, 0.5), image)
    both = [detection(0.9, 1), detection(0.6, 2)]
    assert np.array_equal(draw(image, both, NAMES, 0.5), draw(image, both[::-1], NAMES, 0.5))
    assert tuple(draw(image, both, NAMES, 0.5)[60, 20]) == colour(1)


def test_neighbouring_labels_have_different_colours():
    for label in range(1, 80):
        assert np.abs(np.subtract(colour(label), colour(label + 1))).max() > 100


def test_write_png(tmp_path, image):
    image[0, 0] = (255, 0, 10)
    write_png(tmp_path / "out.png", image)
    assert np.array_equal(cv2.imread(str(tmp_path / "out.png"))[:, :, ::-1], image)
    with pytest.raises(UserError, match="cannot write the picture .*No such file"):
        write_png(tmp_path / "no" / "out.png", image)
