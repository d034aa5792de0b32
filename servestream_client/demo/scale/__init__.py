"""The demo of a deployment that scales: `servestream demo-scale`."""
