#!/usr/bin/env bash
# Fuzzes every parser of bytes from outside, each for FUZZ_SECONDS (an hour), as many at once as
# there are cores. Begins with fuzz/corpus; what it finds beyond goes to fuzz/target/found. An
# input that fails is under fuzz/artifacts: mend, then keep it in fuzz/corpus.
#   tests/fuzz.sh             all targets
#   tests/fuzz.sh TARGET...   those
set -euo pipefail
cd "$(dirname "$0")/.."

packaging/tools.sh cargo-fuzz
export PATH="$PWD/target/tools/bin:$PATH"
# libFuzzer's instrumentation and the sanitizer are no stable features of the compiler.
export RUSTC_BOOTSTRAP=1
# The very versions that the product has.
cp Cargo.lock fuzz/Cargo.lock
cargo fuzz build --fuzz-dir fuzz
[ $# -gt 0 ] || set -- $(cargo fuzz list --fuzz-dir fuzz)

one() {
  local found="fuzz/target/found/$1"
  mkdir -p "$found"
  cargo fuzz run --fuzz-dir fuzz "$1" "$found" "fuzz/corpus/$1" -- \
    -max_total_time="${FUZZ_SECONDS:-3600}" -timeout=10 -rss_limit_mb=2048 -max_len=65536 \
    >"$found.log" 2>&1 || { tail -n 40 "$found.log"; echo "tests/fuzz.sh: $1 failed"; return 1; }
  printf '  %-18s %s\n' "$1" "$(grep -o 'Done .*' "$found.log" | tail -n 1)"
}
export -f one
printf '%s\n' "$@" | xargs -P "$(nproc)" -I{} bash -c 'one "$1"' _ {}
