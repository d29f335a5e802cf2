#!/usr/bin/env python3
"""A coding agent in miniature, for `make demo` and the tests: needs only Debian's python3.

Asks a model (Anthropic Messages, streamed, over TLS), runs the shell commands that the model calls
for, tells it the results and goes on until the turn ends. Exits with 1 when anything goes wrong.
"""

import argparse
import http.client
import json
import ssl
import subprocess
import sys
import urllib.parse

TOOL = {
    "name": "Bash",
    "description": "Runs a shell command",
    "input_schema": {"type": "object", "properties": {"command": {"type": "string"}}},
}
MAX_TURNS = 20


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="such as https://localhost:8443")
    parser.add_argument("ca", help="file with the certificate to trust")
    parser.add_argument("prompt", nargs="?", default="How much memory does the work take?")
    arguments = parser.parse_args()
    address = urllib.parse.urlsplit(arguments.url)
    context = ssl.create_default_context(cafile=arguments.ca)
    connection = http.client.HTTPSConnection(
        address.hostname, address.port, context=context, timeout=60
    )
    messages = [{"role": "user", "content": arguments.prompt}]
    for _ in range(MAX_TURNS):
        blocks, stop_reason = ask(connection, messages)
        messages.append({"role": "assistant", "content": blocks})
        for block in blocks:
            if block["type"] == "text":
                print("model:", block["text"], flush=True)
        if stop_reason != "tool_use":
            connection.close()
            return
        calls = [block for block in blocks if block["type"] == "tool_use"]
        messages.append({"role": "user", "content": [run(call) for call in calls]})
    raise RuntimeError(f"the model did not end its turn in {MAX_TURNS} requests")


def ask(connection, messages):
    """Sends the conversation and returns the answer's blocks and why it ended."""
    request = {
        "model": "mock-model-1",
        "max_tokens": 1024,
        "stream": True,
        "tools": [TOOL],
        "messages": messages,
    }
    headers = {
        "content-type": "application/json",
        "accept-encoding": "identity",
        "anthropic-version": "2023-06-01",
        "user-agent": "demo-agent/1.0",
        "x-api-key": "not-a-real-key",
    }
    connection.request("POST", "/v1/messages", json.dumps(request), headers)
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(f"status {response.status}: {response.read()!r}")
    blocks, stop_reason = [], None
    for event in events(response):
        kind = event["type"]
        if kind == "content_block_start":
            blocks.append(event["content_block"])
            blocks[-1]["parts"] = []
        elif kind == "content_block_delta":
            parts = [text for key, text in event["delta"].items() if key != "type"]
            blocks[event["index"]]["parts"].extend(parts)
        elif kind == "message_delta":
            stop_reason = event["delta"]["stop_reason"]
        elif kind == "error":
            raise RuntimeError(f"error in the stream: {event['error']}")
    return [whole(block) for block in blocks], stop_reason


def events(response):
    """The data of each server-sent event."""
    data = []
    for line in response:
        line = line.decode().rstrip("\r\n")
        if line.startswith("data:"):
            data.append(line[len("data:") :].strip())
        elif not line and data:
            yield json.loads("\n".join(data))
            data = []


def whole(block):
    """A content block put together from its deltas."""
    text = "".join(block.pop("parts"))
    if block["type"] == "tool_use":
        return {**block, "input": json.loads(text or "{}")}
    if block["type"] == "thinking":
        return {"type": "thinking", "thinking": text}
    return {**block, "text": text}


def run(call):
    """Runs a tool call in a shell and returns its result for the model."""
    command = call["input"]["command"]
    print("runs:", command.splitlines()[0], flush=True)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    return {
        "type": "tool_result",
        "tool_use_id": call["id"],
        "content": done.stdout + done.stderr,
        "is_error": done.returncode != 0,
    }


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # one line for the user, whatever it was
        print(f"demo_client: error: {error}", file=sys.stderr)
        sys.exit(1)
