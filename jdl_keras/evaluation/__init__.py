"""Numbers and figures that compare predictions with references. No TensorFlow."""
