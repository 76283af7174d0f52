"""Envs of our own that are tensors: ``base`` steps N of them at once, on any device."""
