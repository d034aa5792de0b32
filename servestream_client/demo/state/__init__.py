"""Voice activity detection on several audio streams, whose replicas are killed."""
