"""The generated code, and `convert`, which turns frames into its messages and back.

`stream_pb2*` are generated from `protos/servestream/v1/stream.proto` by `make protos`.
"""
