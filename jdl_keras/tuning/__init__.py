"""The search for good settings: KerasTuner's oracles over ordinary runs."""
