"""From a trained network to probability maps and masks on the native grid."""
