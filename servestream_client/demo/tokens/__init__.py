"""A real language model behind Ray Serve, and its generations through the death of its replicas."""
