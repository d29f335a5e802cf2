"""Asks a model through a provider's own SDK and prints, as JSON, what the SDK makes of the answer.

usage: sdk.py SDK URL CA-FILE MANNER...
SDK is anthropic, openai-chat, openai-responses or google; every MANNER (stream, document) is one
question. One line of JSON for each: model, stop_reason, text, thinking, tools, usage; or error.
"""

import json
import os
import sys

sdk, url, ca, *manners = sys.argv[1:]
os.environ["SSL_CERT_FILE"] = ca
PROMPT = "Prüfe das: 検査 🌍"
TOOL = {"type": "object", "properties": {"command": {"type": "string"}}}
KEY = "not-a-real-key-0123456789abcdef"


def plain(value):
    return value.model_dump(mode="json") if value is not None else None


def anthropic_client():
    import anthropic

    return anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=2), anthropic.APIError


def ask_anthropic(client, streamed):
    tools = [{"name": "Bash", "description": "Runs", "input_schema": TOOL}]
    messages = [{"role": "user", "content": PROMPT}]
    arguments = {"model": "claude-mock", "max_tokens": 1000, "messages": messages, "tools": tools}
    if streamed:
        with client.messages.stream(**arguments) as stream:
            answer = stream.get_final_message()
    else:
        answer = client.messages.create(**arguments)
    of = lambda kind: [block for block in answer.content if block.type == kind]
    return {
        "model": answer.model,
        "stop_reason": answer.stop_reason,
        "text": "".join(block.text for block in of("text")),
        "thinking": "".join(block.thinking for block in of("thinking")),
        "tools": [[block.id, block.name, block.input] for block in of("tool_use")],
        "usage": plain(answer.usage),
        "id": answer.id,
    }


def openai_client():
    import openai

    return openai.OpenAI(base_url=url + "/v1", api_key=KEY, max_retries=2), openai.APIError


def ask_openai_chat(client, streamed):
    tools = [{"type": "function", "function": {"name": "Bash", "parameters": TOOL}}]
    messages = [{"role": "user", "content": PROMPT}]
    arguments = {"model": "gpt-mock", "messages": messages, "tools": tools}
    if streamed:
        options = {"include_usage": True}
        with client.chat.completions.stream(stream_options=options, **arguments) as stream:
            answer = stream.get_final_completion()
    else:
        answer = client.chat.completions.create(**arguments)
    choice = answer.choices[0]
    calls = choice.message.tool_calls or []
    return {
        "model": answer.model,
        "stop_reason": choice.finish_reason,
        "text": choice.message.content or "",
        "thinking": getattr(choice.message, "reasoning_content", None) or "",
        "tools": [[c.id, c.function.name, json.loads(c.function.arguments)] for c in calls],
        "usage": plain(answer.usage),
        "id": answer.id,
    }


def ask_openai_responses(client, streamed):
    tools = [{"type": "function", "name": "Bash", "parameters": TOOL, "strict": False}]
    arguments = {"model": "gpt-mock", "input": PROMPT, "tools": tools}
    if streamed:
        with client.responses.stream(**arguments) as stream:
            answer = stream.get_final_response()
    else:
        answer = client.responses.create(**arguments)
    of = lambda kind: [item for item in answer.output if item.type == kind]
    thoughts = [part.text for item in of("reasoning") for part in item.summary]
    return {
        "model": answer.model,
        "stop_reason": answer.status,
        "text": answer.output_text,
        "thinking": "".join(thoughts),
        "tools": [[c.call_id, c.name, json.loads(c.arguments)] for c in of("function_call")],
        "usage": plain(answer.usage),
        "id": answer.id,
    }


def google_client():
    from google import genai
    from google.genai import errors

    retry = genai.types.HttpRetryOptions(attempts=3, initial_delay=0.1, max_delay=0.2)
    options = genai.types.HttpOptions(base_url=url, retry_options=retry)
    return genai.Client(api_key=KEY, http_options=options), errors.APIError


def ask_google(client, streamed):
    from google.genai import types

    function = {"name": "Bash", "description": "Runs", "parameters_json_schema": TOOL}
    tools = [types.Tool(function_declarations=[function])]
    never = types.AutomaticFunctionCallingConfig(disable=True)
    config = types.GenerateContentConfig(tools=tools, automatic_function_calling=never)
    arguments = {"model": "gemini-mock", "contents": PROMPT, "config": config}
    models = client.models
    if streamed:
        chunks = list(models.generate_content_stream(**arguments))
    else:
        chunks = [models.generate_content(**arguments)]
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts or []]
    calls = [part.function_call for part in parts if part.function_call]
    said = lambda thought: "".join(p.text for p in parts if p.text and bool(p.thought) == thought)
    return {
        "model": chunks[-1].model_version,
        "stop_reason": chunks[-1].candidates[0].finish_reason.value,
        "text": said(False),
        "thinking": said(True),
        "tools": [[call.id, call.name, call.args] for call in calls],
        "usage": plain(chunks[-1].usage_metadata),
        "id": chunks[-1].response_id,
    }


MAKERS = {
    "anthropic": (anthropic_client, ask_anthropic),
    "openai-chat": (openai_client, ask_openai_chat),
    "openai-responses": (openai_client, ask_openai_responses),
    "google": (google_client, ask_google),
}

make, ask = MAKERS[sdk]
client, failure = make()
for manner in manners:
    try:
        said = ask(client, manner == "stream")
    except Exception as error:  # What an SDK throws when a stream breaks off is its own affair.
        told = isinstance(error, failure)
        said = {"error": type(error).__name__, "told": told, "message": str(error)}
    print(json.dumps(said, ensure_ascii=False), flush=True)
