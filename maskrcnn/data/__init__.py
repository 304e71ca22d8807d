"""Images with objects in COCO format: generated ones, and those of any COCO-format folder. Free of TensorFlow."""
