"""What a clinician reads from masks: masses, burden, segments. No TensorFlow."""
