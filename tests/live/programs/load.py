"""Writes numbered plaintext through OpenSSL without end, to be recorded and interrupted.

usage: load.py CERTIFICATE KEY MARKS RECORD_BYTES PAUSE_MS

Both ends of the TLS connection are in this process, joined in memory. Every record begins with its
number; MARKS gains a line "number time_ns" once a record was written, in nanoseconds UTC.
"""

import os
import ssl
import sys
import time

certificate, key, marks, record_bytes, pause_ms = sys.argv[1:]
record_bytes, pause_s = int(record_bytes), float(pause_ms) / 1000

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

number = 0
with open(marks, "a", buffering=1) as marks:
    while True:
        number += 1
        record = b"record %012d " % number + os.urandom(record_bytes)
        client.write(record)
        marks.write(f"{number} {time.time_ns()}\n")
        received = 0
        while received < len(record):
            received += len(server.read(1 << 16))
        time.sleep(pause_s)
