"""Mask R-CNN whose eleven pieces each exist in a per-image and a batched implementation, behind a flag."""
