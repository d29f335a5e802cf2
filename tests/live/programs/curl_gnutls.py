"""Sends the requests of a file over one kept connection by libcurl-gnutls; see client.rs."""

import ctypes
import json
import os
import sys
import time

url, ca, requests = sys.argv[1:4]
trigger = sys.argv[4] if len(sys.argv) > 4 else None

# curl.h: options count from a base that is their type's.
VERBATIM_POST_BYTES, TIMEOUT_S = 60, 13
URL, POST_FIELDS, HTTP_HEADERS, CA_FILE, WRITE_FUNCTION = 10002, 10015, 10023, 10065, 20011

curl = ctypes.CDLL("libcurl-gnutls.so.4")
curl.curl_easy_init.restype = ctypes.c_void_p
curl.curl_slist_append.restype = ctypes.c_void_p
curl.curl_slist_append.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
curl.curl_easy_perform.argtypes = [ctypes.c_void_p]
curl.curl_easy_cleanup.argtypes = [ctypes.c_void_p]
curl.curl_easy_setopt.argtypes = [ctypes.c_void_p, ctypes.c_int]
Write = ctypes.CFUNCTYPE(
    ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p
)
discard = Write(lambda data, size, count, context: size * count)

handle = ctypes.c_void_p(curl.curl_easy_init())
headers = None
for line in (b"content-type: application/json", b"expect:"):
    headers = curl.curl_slist_append(headers, line)


def option(number, value):
    if curl.curl_easy_setopt(handle, number, value) != 0:
        raise OSError(f"option {number} is refused")


option(CA_FILE, ca.encode())
option(HTTP_HEADERS, ctypes.c_void_p(headers))
option(WRITE_FUNCTION, discard)
option(TIMEOUT_S, ctypes.c_long(60))
for index, line in enumerate(open(requests, encoding="utf-8")):
    if index == 1 and trigger:
        while not os.path.exists(trigger):
            time.sleep(0.01)
    request = json.loads(line)
    body = json.dumps(request["body"], ensure_ascii=False).encode()
    option(URL, (url + request["path"]).encode())
    option(VERBATIM_POST_BYTES, ctypes.c_long(len(body)))
    option(POST_FIELDS, ctypes.c_char_p(body))
    if (status := curl.curl_easy_perform(handle)) != 0:
        raise OSError(f"libcurl failed with {status}")
curl.curl_easy_cleanup(handle)
