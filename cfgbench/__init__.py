"""cfgbench measures what the classifier-free-guidance scale does to the quality and speed of generative models."""

__version__ = "0.1.0"
