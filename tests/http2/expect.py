#!/usr/bin/env python3
"""Asks over HTTP/2 and sends a body only as far as the server lets it.

expect.py ADDRESS PORT CA CERTIFICATE KEY < requests.json

Each request is {"path", "headers", "body_bytes", "body", "waits", "unfinished"}: the body is `body`, or
`body_bytes` zeros. `waits`: nothing of it is sent before 100 Continue. `unfinished`: the stream is
never ended. All go over one connection, one after the other.
Prints JSON, for each: the statuses that came, in order; how many bytes of the body were sent; the
error code of the RST_STREAM that came (null: none).
"""
import json
import socket
import ssl
import sys

import h2.config
import h2.connection
import h2.events

PIECE = 16384


class Client:
    def __init__(self, address, port, ca, certificate, key):
        context = ssl.create_default_context(cafile=ca)
        context.load_cert_chain(certificate, key)
        context.set_alpn_protocols(["h2"])
        raw = socket.create_connection((address, int(port)), timeout=25)
        self.stream = context.wrap_socket(raw, server_hostname="localhost")
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        self.stream.sendall(self.h2.data_to_send())

    def receive(self):
        received = self.stream.recv(65536)
        if not received:
            raise SystemExit("the server closed the connection")
        events = self.h2.receive_data(received)
        self.flush()
        return events

    def ask(self, request):
        body = request.get("body", "").encode() or bytes(request.get("body_bytes", 0))
        number = self.h2.get_next_available_stream_id()
        head = [(":method", "POST"), (":scheme", "https"), (":authority", "localhost"),
                (":path", request["path"])] + [tuple(header) for header in request["headers"]]
        self.h2.send_headers(number, head)
        self.flush()
        statuses, sent, reset, ended = [], 0, None, False
        waits = request.get("waits", False)
        while not ended:
            if not waits and sent < len(body):
                room = min(self.h2.local_flow_control_window(number), PIECE, len(body) - sent)
                if room > 0:
                    sent += room
                    last = sent == len(body) and not request.get("unfinished", False)
                    self.h2.send_data(number, body[sent - room:sent], end_stream=last)
                    self.flush()
                    self.stream.settimeout(0)
            try:
                events = self.receive()
            except (ssl.SSLWantReadError, BlockingIOError):
                events = []
            finally:
                self.stream.settimeout(25)
            for event in events:
                if isinstance(event, h2.events.InformationalResponseReceived):
                    statuses.append(int(dict(event.headers)[b":status"]))
                    waits = False
                elif isinstance(event, h2.events.ResponseReceived):
                    statuses.append(int(dict(event.headers)[b":status"]))
                    # Whoever is refused sends no more.
                    waits = True
                elif isinstance(event, h2.events.StreamReset) and event.stream_id == number:
                    reset, ended = int(event.error_code), True
                elif isinstance(event, h2.events.StreamEnded) and event.stream_id == number:
                    # A stream of which the body is not all sent is reset, too.
                    ended = sent == len(body) and not request.get("unfinished", False)
        return {"statuses": statuses, "sent": sent, "reset": reset}


def main():
    client = Client(*sys.argv[1:])
    print(json.dumps([client.ask(request) for request in json.load(sys.stdin)]))


main()
