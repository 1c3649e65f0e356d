#!/usr/bin/env python3
"""Makes services read-only while signing is frozen: sets a variable of their workloads with kubectl.

    SIGNING_PROXY_URLS="https://signing-proxy-0.signing-proxy.signing.svc:8443 https://signing-proxy-1..." \\
    SIGNING_PROXY_CA=ca.pem SIGNING_PROXY_CLIENT_CERT=client.pem SIGNING_PROXY_CLIENT_KEY=client.key \\
    READ_ONLY_WORKLOADS="deployment/orders deployment/ledger" ./read_only_flag.py

It asks each proxy for its health every few seconds (INTERVAL_S, default 5):

    one says that it is frozen       READ_ONLY=true
    all say that they sign           READ_ONLY=false
    anything else                    the variable stays as it is

So a short outage restarts nothing, and silence never makes a service writable. The flag is for people's
sake: the proxy refuses during a freeze whatever it says. Of Kubernetes it needs `get` and `patch` on these
workloads. One instance is enough; a second one does no harm.
"""

import json
import os
import ssl
import subprocess
import sys
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

TIMEOUT_S = 10
ANSWER_MAX_BYTES = 1 << 20


def read_only(answers):
    """What the flag has to be by what the proxies say of themselves, or None: as it is."""
    if any(answer.get("frozen") is True for answer in answers):
        return True
    if answers and all(answer.get("ok") is True for answer in answers):
        return False
    return None


def health(url):
    """What a proxy says of itself. Nothing, if it does not answer or something else does."""
    try:
        place = urlsplit(url)
        if place.scheme == "https":
            # Read each time, so that a renewed certificate needs no restart.
            context = ssl.create_default_context(cafile=os.environ["SIGNING_PROXY_CA"])
            context.load_cert_chain(os.environ["SIGNING_PROXY_CLIENT_CERT"], os.environ["SIGNING_PROXY_CLIENT_KEY"])
            connection = HTTPSConnection(place.hostname, place.port, timeout=TIMEOUT_S, context=context)
        elif place.hostname in ("127.0.0.1", "::1", "localhost"):
            connection = HTTPConnection(place.hostname, place.port, timeout=TIMEOUT_S)
        else:
            raise ValueError("without TLS an answer can be anyone's")
        try:
            connection.request("GET", "/health")
            answer = json.loads(connection.getresponse().read(ANSWER_MAX_BYTES))
        finally:
            connection.close()
        return answer if isinstance(answer, dict) else {}
    except (OSError, HTTPException, ValueError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return {}


def set_flag(workloads, value):
    """Whether every workload has it now. Setting what is set already changes nothing."""
    kubectl = ["kubectl", "set", "env", *workloads, f"READ_ONLY={'true' if value else 'false'}"]
    try:
        subprocess.run(kubectl, check=True, timeout=60, stdin=subprocess.DEVNULL)
        return True
    except (OSError, subprocess.SubprocessError) as error:
        print(f"tried again soon: {error}", file=sys.stderr)
        return False


def main():
    urls = os.environ["SIGNING_PROXY_URLS"].split()
    workloads = os.environ["READ_ONLY_WORKLOADS"].split()
    if not urls or not workloads:
        sys.exit("SIGNING_PROXY_URLS and READ_ONLY_WORKLOADS name one at least")
    is_set = None  # not known: the first answer sets it, whatever an earlier run did
    while True:
        wanted = read_only([health(url) for url in urls])
        if wanted is not None and wanted != is_set:
            is_set = wanted if set_flag(workloads, wanted) else None
        time.sleep(float(os.environ.get("INTERVAL_S", "5")))


if __name__ == "__main__":
    main()
