"""Where pairs come from: one file a data set. There is none in this version."""
