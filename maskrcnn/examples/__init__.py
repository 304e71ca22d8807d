"""Pieces of one's own, as a user would write them for `--plant FLAG=package.module:function`."""
