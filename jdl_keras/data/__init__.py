"""From record sets to batches."""
