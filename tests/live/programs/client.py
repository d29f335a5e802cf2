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
headers = {"content-type": "application/json", "accept-encoding": "gzip"}
headers.update(json.loads(os.environ.get("CLIENT_HEADERS", "{}")))


class Plain:
    """http.client, which is in every Python."""

    def __init__(self):
        address = urllib.parse.urlsplit(url)
        self.connection = http.client.HTTPSConnection(
            address.hostname, address.port, timeout=60, context=ssl.create_default_context(cafile=ca)
        )

    def post(self, path, body):
        self.connection.request("POST", path, body, headers)
        response = self.connection.getresponse()
        while response.read1(4096):  # as they come, as an SDK does
            pass
        return response.status

    def close(self):
        self.connection.close()


class Requests:
    def __init__(self):
        import requests

        self.session = requests.Session()

    def post(self, path, body):
        # Given here, or a bundle that the surroundings name comes first.
        response = self.session.post(
            url + path, body, headers=headers, stream=True, timeout=60, verify=ca
        )
        for _ in response.iter_content(None):
            pass
        return response.status_code

    def close(self):
        self.session.close()


class Httpx:
    def __init__(self):
        import httpx

        context = ssl.create_default_context(cafile=ca)
        self.client = httpx.Client(verify=context, timeout=60)

    def post(self, path, body):
        with self.client.stream("POST", url + path, content=body, headers=headers) as response:
            for _ in response.iter_bytes():
                pass
            return response.status_code

    def close(self):
        self.client.close()


client = {"requests": Requests, "httpx": Httpx}.get(os.environ.get("CLIENT_API"), Plain)()


def send(request):
    body = json.dumps(request["body"], ensure_ascii=False).encode()
    status = client.post(request["path"], body)
    if status != 200:
        raise OSError(f"status {status}")


for index, line in enumerate(open(requests, encoding="utf-8")):
    if index == 1 and trigger:
        while not os.path.exists(trigger):
            time.sleep(0.01)
    try:
        send(json.loads(line))
    except (OSError, http.client.HTTPException):
        if not goes_on:
            raise
        client.close()
client.close()
