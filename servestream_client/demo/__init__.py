"""A real classifier and a small language model on a real Ray Serve, whose replicas are killed."""
