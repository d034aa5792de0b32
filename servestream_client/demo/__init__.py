"""A real classifier on a real Ray Serve, and a stream through the death of its replicas."""
