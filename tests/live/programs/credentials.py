"""Says what it is told over TLS, piece by piece, and waits for its standard input to end.

usage: credentials.py CERTIFICATE KEY PIECES DONE

PIECES is a file with a line of JSON per call of the TLS library: ["client" or "server", text]. Both
ends of the connection are in this process, joined in memory, so each piece is written once and read
once. DONE is made when all is said.
"""

import json
import ssl
import sys

certificate, key, pieces, done = sys.argv[1:5]

server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain(certificate, key)
client_context = ssl.create_default_context()
client_context.check_hostname = False
client_context.verify_mode = ssl.CERT_NONE

to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
client = client_context.wrap_bio(to_client, to_server)
server = server_context.wrap_bio(to_server, to_client, server_side=True)


def shake(end):
    try:
        end.do_handshake()
        return True
    except ssl.SSLWantReadError:
        return False


while not (shake(client) & shake(server)):
    pass

for line in open(pieces, encoding="utf-8"):
    speaker, text = json.loads(line)
    data = text.encode()
    sender, receiver = (client, server) if speaker == "client" else (server, client)
    sender.write(data)
    received = b""
    while len(received) < len(data):
        received += receiver.read(1 << 16)
    if received != data:
        raise SystemExit("what was read is not what was written")
open(done, "w").close()
sys.stdin.read()
