"""Turns cardiac LGE studies into TFRecord sets. Never imports Keras."""

__version__ = "0.1.0"
