#!/bin/sh
# Has FILE signed with curl, checks the signature, and prints it in base64. Certificates: .curlrc.
#   CURL_HOME=DIRECTORY_OF_CURLRC SIGNING_PROXY_URL=https://proxy.internal:8443 ./sign.sh FILE
set -eu
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

signer=${SIGNCTL_SIGNER:+", \"signer_kid\": \"$SIGNCTL_SIGNER\""} # else your default signer
status=$(printf '{"message": "%s"%s}' "$(base64 <"$1" | tr -d '\n')" "$signer" |
  curl --silent --show-error --output "$answer" --write-out '%{http_code}' \
    --header 'content-type: application/json' --data-binary @- "$SIGNING_PROXY_URL/v1/sign")

field() { sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p" "$answer"; }

if [ "$status" != 200 ]; then
  # A refusal is an answer. Do not sign with a key of your own, and do not ask again at once: report it,
  # stay read-only, and come back after retry_after_s.
  echo "refused: $(field reason) (HTTP $status), retry after $(field retry_after_s) s: $(cat "$answer")" >&2
  exit 75
fi
# Under this machine's copy of the registry (SIGNCTL_SIGNERS). `signctl` has the same authority and
# certificate by variables. Or let your program verify, as the examples beside this one do.
SIGNING_PROXY_CA=/run/secrets/signing-proxy/ca.pem \
  SIGNING_PROXY_CLIENT_CERT=/run/secrets/signing-proxy/client.pem \
  SIGNING_PROXY_CLIENT_KEY=/run/secrets/signing-proxy/client.key \
  signctl verify "$1" --answer "$answer" >&2
echo "$(field signature)"
