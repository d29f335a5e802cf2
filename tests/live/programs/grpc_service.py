"""A gRPC service behind TLS that says what went over each connection; see libraries.rs.

The service itself speaks no TLS: a proxy in front of it ends TLS and keeps hashes of the plaintext.
"""

import concurrent.futures
import hashlib
import json
import socket
import ssl
import sys
import threading

import grpc

certificate, key = sys.argv[1:3]


def ask(request, context):
    return request[::-1]


def tell(request, context):
    for piece in range(200):
        yield b"%d " % piece * 20


handlers = {
    "Ask": grpc.unary_unary_rpc_method_handler(ask),
    "Tell": grpc.unary_stream_rpc_method_handler(tell),
}
service = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
service.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("Model", handlers)])
port = service.add_insecure_port("127.0.0.1:0")
service.start()

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
context.set_alpn_protocols(["h2"])


def forward(source, target, digest):
    """Hands on until the source ends, as one of two; returns the bytes moved."""
    moved = 0
    try:
        while data := source.recv(1 << 16):
            digest.update(data)
            moved += len(data)
            target.sendall(data)
    except OSError:
        pass  # the other side has ended; what was read is in the digest
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
    return moved


def serve(plain):
    with context.wrap_socket(plain, server_side=True) as client:
        with socket.create_connection(("127.0.0.1", port)) as server:
            received, sent = hashlib.sha256(), hashlib.sha256()
            back = threading.Thread(target=forward, args=(server, client, sent))
            back.start()
            moved = forward(client, server, received)
            back.join()
    truth = {"received": received.hexdigest(), "sent": sent.hexdigest(), "received_bytes": moved}
    print(json.dumps(truth), file=sys.stderr, flush=True)


listener = socket.create_server(("127.0.0.1", 0))
print(f"ready {listener.getsockname()[1]} .", file=sys.stderr, flush=True)
while True:
    threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()
