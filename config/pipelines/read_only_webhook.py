#!/usr/bin/env python3
"""Makes services read-only while signing is frozen: a webhook of signing-trail sets a variable of their
workloads with kubectl.

    WEBHOOK_KEY_FILE=hmac.key WEBHOOK_STATE=frozen.json LISTEN=0.0.0.0:8080 \\
    TLS_CERT=server.pem TLS_KEY=server.key \\
    READ_ONLY_WORKLOADS="deployment/orders deployment/ledger" ./read_only_webhook.py

In the configuration of signing-trail, on each machine:

    [[notify.webhooks]]
    name = "read-only"
    url = "https://read-only.signing.svc:8080/"
    hmac_key_file = "/etc/signing-trail/hmac.key"
    ca_file = "/etc/signing-trail/cluster-ca.pem"
    events = ["frozen", "unfrozen"]
    timeout_ms = 60000

One instance is frozen       READ_ONLY=true
None is frozen any more      READ_ONLY=false

It answers 200 only once kubectl has set the variable, and the state is on disk. Until then signing-trail
sends the event again. So an event is not lost while this receiver, or Kubernetes, is away. It trusts only
what is signed with the key, at most five minutes ago, and does each event once. Of Kubernetes it needs `get`
and `patch` on these workloads. Run one replica, with WEBHOOK_STATE on a volume of its own. An instance that was
removed while it was frozen is frozen there for ever: take its line out of that file.
"""

import base64
import hashlib
import hmac
import json
import os
import ssl
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

TOLERANCE_S = 300
BODY_MAX_BYTES = 1 << 20
TIMEOUT_S = 10
# As many events as anybody can send again: more than come in ten minutes.
DONE_MAX = 1000


def key(file):
    """The key of the webhook: whsec_ and base64."""
    with open(file, encoding="ascii") as opened:
        return base64.b64decode(opened.read().strip().removeprefix("whsec_"), validate=True)


def verified(secret, headers, body, now):
    """The event in `body`, or None: it is not signed with the key, or not now."""
    event_id, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (at.isascii() and at.isdigit() and len(at) < 12 and abs(now - int(at)) <= TOLERANCE_S):
        return None
    content = f"{event_id}.{at}.".encode() + body
    wanted = base64.b64encode(hmac.new(secret, content, hashlib.sha256).digest())
    given = headers.get("webhook-signature", "").split()
    given = [one[3:].encode() for one in given if one.startswith("v1,")]
    # All are compared, each in a time that does not depend on it.
    if not sum(hmac.compare_digest(wanted, one) for one in given):
        return None
    try:
        event = json.loads(body)
    except ValueError:
        return None
    return event if isinstance(event, dict) and event.get("id") == event_id else None


class State:
    """Which instances are frozen, and which events were done; on disk."""

    def __init__(self, file):
        self.file = file
        self.frozen, self.done = {}, []
        if os.path.exists(file):
            with open(file, encoding="utf-8") as opened:
                kept = json.load(opened)
            self.frozen, self.done = kept["frozen"], kept["done"]

    def take(self, event, set_flag):
        """Whether the event is done: the flag is set, and that is on disk."""
        if event["id"] in self.done:
            return True
        word, instance, frozen = event.get("event"), str(event.get("instance")), self.frozen
        if word in ("frozen", "unfrozen"):
            # What is in force after it: a freeze can end while another one stands.
            data = event.get("data")
            is_frozen = isinstance(data, dict) and data.get("frozen") is not False
            after = {**self.frozen, instance: is_frozen}
            if not set_flag(any(after.values())):
                return False
            frozen = after
        done = [*self.done, event["id"]][-DONE_MAX:]
        # Nothing is known here that is not on disk.
        try:
            self.write(frozen, done)
        except OSError as error:
            print(f"not kept; signing-trail sends it again: {error}", file=sys.stderr)
            return False
        self.frozen, self.done = frozen, done
        return True

    def write(self, frozen, done):
        beside = f"{self.file}.new"
        with open(beside, "w", encoding="utf-8") as opened:
            json.dump({"frozen": frozen, "done": done}, opened)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(beside, self.file)


def set_flag(value):
    """Whether every workload has it now. Setting what is set already changes nothing."""
    workloads = os.environ["READ_ONLY_WORKLOADS"].split()
    kubectl = ["kubectl", "set", "env", *workloads, f"READ_ONLY={'true' if value else 'false'}"]
    try:
        subprocess.run(kubectl, check=True, timeout=60, stdin=subprocess.DEVNULL)
        return True
    except (OSError, subprocess.SubprocessError) as error:
        print(f"not set; signing-trail sends it again: {error}", file=sys.stderr)
        return False


class Handler(BaseHTTPRequestHandler):
    """One request."""

    timeout = TIMEOUT_S
    state = None

    def do_POST(self):  # noqa: N802
        self.close_connection = True
        length = self.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 9 and int(length) <= BODY_MAX_BYTES):
            return self.answer(413)
        body = self.rfile.read(int(length))
        # Read each time, so that a new key needs no restart.
        event = verified(key(os.environ["WEBHOOK_KEY_FILE"]), self.headers, body, time.time())
        if event is None:
            return self.answer(401)
        return self.answer(200 if self.state.take(event, set_flag) else 503)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()


class Server(HTTPServer):
    """One request at a time: events are done in the order in which they come."""

    context = None

    def get_request(self):
        connection, address = super().get_request()
        connection.settimeout(TIMEOUT_S)
        if self.context is not None:
            connection = self.context.wrap_socket(connection, server_side=True)
        return connection, address


def main():
    if not os.environ["READ_ONLY_WORKLOADS"].split():
        sys.exit("READ_ONLY_WORKLOADS names one at least")
    key(os.environ["WEBHOOK_KEY_FILE"])
    Handler.state = State(os.environ["WEBHOOK_STATE"])
    host, port = os.environ.get("LISTEN", "127.0.0.1:8080").rsplit(":", 1)
    server = Server((host, int(port)), Handler)
    if "TLS_CERT" in os.environ:
        server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.context.load_cert_chain(os.environ["TLS_CERT"], os.environ["TLS_KEY"])
    elif host not in ("127.0.0.1", "localhost"):
        sys.exit("TLS_CERT and TLS_KEY are missing: without TLS only this machine is listened to")
    print(f"listening at {host}:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
