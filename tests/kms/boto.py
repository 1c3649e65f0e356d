"""Calls KMS with boto3, which knows of the gate only what the environment says.

Reads a list of [operation, arguments] as JSON; bytes are {"b64": "..."}. Prints a list of what came:
{"ok": answer} or {"error": code, "message": ..., "status": ...}, each with the requests it took.
"""
import base64
import json
import sys

import boto3
import botocore.exceptions


def read(value):
    if isinstance(value, dict) and set(value) == {"b64"}:
        return base64.b64decode(value["b64"])
    return value


def written(value):
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {key: written(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [written(inner) for inner in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


def main():
    kms = boto3.client("kms")
    sent = []
    kms.meta.events.register("before-send.kms", lambda request, **_: sent.append(request.url))
    results = []
    for operation, arguments in json.load(sys.stdin):
        sent.clear()
        call = getattr(kms, operation)
        try:
            answer = call(**{key: read(value) for key, value in arguments.items()})
            # What boto3 says of the connection.
            answer.pop("ResponseMetadata")
            result = {"ok": written(answer)}
        except botocore.exceptions.ClientError as error:
            result = {
                "error": error.response["Error"]["Code"],
                "message": error.response["Error"]["Message"],
                "status": error.response["ResponseMetadata"]["HTTPStatusCode"],
            }
        results.append({**result, "requests": len(sent)})
    json.dump(results, sys.stdout)


main()
