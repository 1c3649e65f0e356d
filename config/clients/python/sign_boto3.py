"""Has standard input signed with boto3, as by KMS, checks the signature, and prints it in base64.

    pip install boto3 cryptography; python3 sign_boto3.py <FILE

Nothing here knows of the proxy. A local door of the proxy is named by the environment:

    AWS_ENDPOINT_URL_KMS=http://127.0.0.1:8444   no TLS: it never leaves this machine
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY     the key pair of that door, none of AWS
    AWS_REGION                                   any
    KMS_KEY_ID, KMS_ALGORITHM                    the signer, and KMS's name of its algorithm
"""

import base64
import os
import sys

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from verify import NotVerified, verify

kms = boto3.client("kms")


def sign(message: bytes) -> bytes:
    """At most 4096 bytes, as with KMS: of more send the digest, with MessageType="DIGEST"."""
    answer = kms.sign(
        KeyId=os.environ["KMS_KEY_ID"],
        Message=message,
        MessageType="RAW",
        SigningAlgorithm=os.environ["KMS_ALGORITHM"],
    )
    # The key that signed: in an emergency another one than was asked for.
    verify(message, answer["KeyId"], answer["Signature"])
    return answer["Signature"]


if __name__ == "__main__":
    try:
        print(base64.b64encode(sign(sys.stdin.buffer.read())).decode())
    except kms.exceptions.KMSInvalidStateException as refused:
        # A refusal is an answer: signing is stopped, and the message begins with the reason. Do not sign
        # with a key of your own, and do not go round the proxy to KMS: fail your own request or stay
        # read-only, and come back later. boto3 did not ask a second time, and you should not either.
        print("refused:", refused.response["Error"]["Message"], file=sys.stderr)
        sys.exit(75)
    except (ClientError, BotoCoreError, NotVerified) as error:
        sys.exit(str(error))
