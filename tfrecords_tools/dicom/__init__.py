"""DICOM files of a hospital: found, understood, and read as stacks."""
