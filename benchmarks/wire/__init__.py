"""Generated code of the raw RPCs, by `make protos`."""
