"""Optimizers, one algorithm family per file: the scaling rule, and the presets that chain it with a learning rate."""
