"""The Ray Serve application that the tests and the demo run against, with faults by plan."""
