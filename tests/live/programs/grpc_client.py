"""Calls the service of grpc_service.py; see libraries.rs."""

import sys
import time

import grpc

address, ca = sys.argv[1:3]
with open(ca, "rb") as file:
    credentials = grpc.ssl_channel_credentials(file.read())

# Connections on which nothing depends: a library that was just loaded may not be probed yet. They
# stay open, as the end of a connection does not show in a stripped BoringSSL.
early = []
begin = time.monotonic()
while time.monotonic() - begin < 2:
    options = [("grpc.use_local_subchannel_pool", 1)]
    early.append(grpc.secure_channel(address, credentials, options))
    early[-1].unary_unary("/Model/Ask")(b"early", timeout=60)
    time.sleep(0.1)
with grpc.secure_channel(address, credentials, options) as channel:
    ask = channel.unary_unary("/Model/Ask")
    for size in (1, 1000, 100_000, 3_000_000):
        request = bytes(index % 251 for index in range(size))
        if ask(request, timeout=60) != request[::-1]:
            raise OSError("the answer is another one")
    if len(list(channel.unary_stream("/Model/Tell")(b"", timeout=60))) != 200:
        raise OSError("the stream is not complete")
