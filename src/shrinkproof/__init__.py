"""Compress a CNN after training and prove what that did to it."""

__version__ = "0.1.0.dev0"
