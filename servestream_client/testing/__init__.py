"""What tests of streams need: faults by plan."""
