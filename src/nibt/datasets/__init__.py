"""Where pairs come from: one file, or folder, a data set."""
