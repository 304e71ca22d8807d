"""Mask R-CNN whose eleven pieces each exist in a per-image and a batched form, behind a flag."""
