"""Finds which batched pieces of a training break its accuracy. Knows flags, runs and statistics; never imports
TensorFlow.
"""
