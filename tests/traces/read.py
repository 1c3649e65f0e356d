"""Reads what the proxy sends to a collector by OpenTelemetry's own definitions, and refuses what they do not have.

Standard input: the body of one request. Standard output: the number of spans.
"""

import base64
import json
import sys

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

body = json.load(sys.stdin)
for resource in body["resourceSpans"]:
    for scope in resource["scopeSpans"]:
        for span in scope["spans"]:
            # The one place where OTLP leaves the JSON form of protobuf: ids are in hex, not in base64.
            for key, length in (("traceId", 16), ("spanId", 8), ("parentSpanId", 8)):
                if key in span:
                    identity = bytes.fromhex(span[key])
                    assert len(identity) == length, span
                    span[key] = base64.b64encode(identity).decode()
# A field that the definitions do not have is an error.
request = json_format.ParseDict(body, ExportTraceServiceRequest())
spans = [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]
for span in spans:
    assert span.start_time_unix_nano <= span.end_time_unix_nano, span
    assert span.kind in (1, 2, 3), span
print(len(spans))
