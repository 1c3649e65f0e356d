"""Has standard input signed with requests, checks the signature, and prints it in base64.

    pip install requests cryptography; python3 sign_requests.py <FILE
"""

import base64
import os
import sys

import requests

from verify import NotVerified, verify


class Refused(Exception):
    """A refusal is an answer. Do not sign with a key of your own, and do not ask again at once: fail your
    own request or stay read-only, and come back after `retry_after_s` seconds, if there are any."""

    def __init__(self, answer: requests.Response):
        try:
            said = answer.json()
        except ValueError:  # it was not the proxy that answered
            said = {}
        self.reason, self.retry_after_s = said.get("reason"), said.get("retry_after_s")
        reason = self.reason or f"HTTP {answer.status_code}"
        super().__init__(f"refused: {reason}: {said.get('detail')}, retry after {self.retry_after_s} s")


# One for the whole program: it keeps connections.
session = requests.Session()
# Else HTTPS_PROXY, REQUESTS_CA_BUNDLE and .netrc have a say.
session.trust_env = False
session.verify = os.environ["SIGNING_PROXY_CA"]  # this authority alone is trusted
session.cert = (os.environ["SIGNING_PROXY_CLIENT_CERT"], os.environ["SIGNING_PROXY_CLIENT_KEY"])


def sign(message: bytes) -> str:
    body = {"message": base64.b64encode(message).decode()}
    if os.environ.get("SIGNCTL_SIGNER"):  # else your default signer
        body["signer_kid"] = os.environ["SIGNCTL_SIGNER"]
    url = os.environ["SIGNING_PROXY_URL"] + "/v1/sign"
    answer = session.post(url, json=body, timeout=30, allow_redirects=False)
    if answer.status_code != 200:
        raise Refused(answer)
    signed = answer.json()
    verify(message, signed["signer_kid"], base64.b64decode(signed["signature"]))
    return signed["signature"]


if __name__ == "__main__":
    try:
        print(sign(sys.stdin.buffer.read()))
    except Refused as refused:
        print(refused, file=sys.stderr)
        sys.exit(75 if refused.retry_after_s else 1)
    except (NotVerified, requests.RequestException) as error:
        sys.exit(str(error))
