#!/bin/sh
# grpcio 1.85.1, trustme 1.2.1, CPython 3.11.
#
# A guess: the channel argument `grpc.default_authority` sets the :authority header of calls and nothing
# else, so that a channel to an address by TLS needs `grpc.ssl_target_name_override` as well (documented as
# "for testing only") to be checked against the server's name.
#
# Seen: it is the name that the certificate is checked for, too, with its port or without. So a client that
# looks names up by itself needs no option that is meant for tests.
#
#   by address alone: refused
#   default_authority is the name: served
#   default_authority is the name and a port: served
#   default_authority is another name: refused
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check "grpcio==1.85.1" "trustme==1.2.1"
cat > "$folder/look.py" <<'PYTHON'
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import trustme

NAME = "replicas.example"
authority = trustme.CA()
issued = authority.issue_cert(NAME)
chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)


server = grpc.server(ThreadPoolExecutor(2), handlers=[Echo()])
pairs = [(issued.private_key_pem.bytes(), chain)]
port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pairs))
server.start()
trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())


def outcome(*options):
    with grpc.secure_channel(f"ipv4:127.0.0.1:{port}", trusted, options=options) as channel:
        try:
            answer = channel.unary_unary("/any/Method")(b"hello", timeout=20)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return "refused"
        return "served" if answer == b"hello" else "another answer"


seen = {
    "by address alone": outcome(),
    "default_authority is the name": outcome(("grpc.default_authority", NAME)),
    "default_authority is the name and a port": outcome(("grpc.default_authority", f"{NAME}:{port}")),
    "default_authority is another name": outcome(("grpc.default_authority", "other.example")),
}
for what, how in seen.items():
    print(f"{what}: {how}")
server.stop(None)
sys.exit(list(seen.values()) != ["refused", "served", "served", "refused"])
PYTHON
"$folder/env/bin/python" "$folder/look.py"
