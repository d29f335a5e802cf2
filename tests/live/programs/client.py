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
address = urllib.parse.urlsplit(url)
context = ssl.create_default_context(cafile=ca)
connection = http.client.HTTPSConnection(address.hostname, address.port, context=context, timeout=60)
for index, line in enumerate(open(requests, encoding="utf-8")):
    request = json.loads(line)
    if index == 1 and trigger:
        while not os.path.exists(trigger):
            time.sleep(0.01)
    body = json.dumps(request["body"], ensure_ascii=False).encode()
    headers = {"content-type": "application/json", "accept-encoding": "gzip"}
    connection.request("POST", request["path"], body, headers)
    response = connection.getresponse()
    while response.read1(4096):  # as they come, as an SDK does
        pass
    if response.status != 200:
        sys.exit(f"status {response.status}")
connection.close()
