"""What a session needs of a link, and the links there are.

`base` is the contract, `grpc_link` speaks gRPC over the generated stub, `memory` joins the two
ends in one process, and `classify` is the one place where a gRPC status becomes a decision.
"""
