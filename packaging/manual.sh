#!/usr/bin/env bash
# Writes the man pages and the completions for shells of the programs in BUILT, each from the
# program's own description of its command line.
#   packaging/manual.sh BUILT SHARE     SHARE is laid out as /usr/share is
set -euo pipefail
[ $# = 2 ] || { echo "usage: packaging/manual.sh BUILT SHARE" >&2; exit 2; }
built="$1" share="$2"

for program in signing-proxy signctl breakglass-signer signing-trail; do
  "$built/$program" manual --out "$share" >/dev/null
done

# The worker has no verbs, and no library that describes its command line: its page is its help.
roff() { sed -e 's/\\/\\e/g' -e 's/-/\\-/g' -e "s/^\\([.']\\)/\\\\\&\\1/"; }
help="$("$built/pkcs11-worker" --help)"
version="$("$built/pkcs11-worker" --version)"
first="$(sed -n '1s/: / - /p' <<<"$help")"
[ -n "$first" ] || { echo "packaging/manual.sh: the help of pkcs11-worker begins with another line than before" >&2; exit 1; }
{
  printf '.TH pkcs11-worker 1 "" "%s" "Signing proxy"\n.SH NAME\n' "$version"
  roff <<<"$first"
  printf '.SH SYNOPSIS\n.nf\n'
  sed -e 1d -e 's/^usage: *//' -e 's/^ *//' <<<"$help" | roff
  printf '.fi\n.SH DESCRIPTION\n%s\n' "The proxy starts one for each token of a signer, and kills it when it hangs. Nobody else starts it, except to measure a token."
} >"$share/man/man1/pkcs11-worker.1"
