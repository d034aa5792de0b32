"""A web service in front of a classifier of handwritten digits."""
