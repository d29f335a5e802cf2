"""Sends the requests of a file over one kept TLS connection; see tests/live/client.rs."""

import http.client
import json
import os
import ssl
import sys
import time
import urllib.parse

url, ca, requests = sys.argv[1:4]
trigger = sys.argv[4] if len(sys.argv) > 4 else None
goes_on = "CLIENT_GOES_ON" in os.environ
address = urllib.parse.urlsplit(url)
context = ssl.create_default_context(cafile=ca)
connection = http.client.HTTPSConnection(address.hostname, address.port, context=context, timeout=60)


def send(request):
    body = json.dumps(request["body"], ensure_ascii=False).encode()
    headers = {"content-type": "application/json", "accept-encoding": "gzip"}
    headers.update(json.loads(os.environ.get("CLIENT_HEADERS", "{}")))
    connection.request("POST", request["path"], body, headers)
    response = connection.getresponse()
    while response.read1(4096):  # as they come, as an SDK does
        pass
    if response.status != 200:
        raise OSError(f"status {response.status}")


for index, line in enumerate(open(requests, encoding="utf-8")):
    if index == 1 and trigger:
        while not os.path.exists(trigger):
            time.sleep(0.01)
    try:
        send(json.loads(line))
    except (OSError, http.client.HTTPException):
        if not goes_on:
            raise
        connection.close()
connection.close()
