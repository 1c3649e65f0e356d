#!/usr/bin/env bash
# CPU of a refusal by two builds of the proxy, in pairs: what one machine does to one of a pair it does to both.
#   benches/pairs.sh OLD NEW [PAIRS] [CONNECTIONS] [SECONDS]
# OLD and NEW are files of signing-proxy. Prints new / old of each pair, and their median.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 2 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
old=$(realpath "$1") new=$(realpath "$2") pairs=${3:-22} connections=${4:-1} seconds=${5:-2}

cargo build --release --locked --quiet -p benches
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The harness takes the proxy that lies beside it.
cp target/release/side-by-side "$work/"
measure() {
  cp "$1" "$work/signing-proxy"
  "$work/side-by-side" --seconds "$seconds" --rounds 1 --connections "$connections" --only 'refusal (frozen)' --json "$work/json" >"$work/said" 2>&1 ||
    { cat "$work/said" >&2; return 1; }
  python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["parts"][0]["cpu_us"]["median"])' "$work/json"
}
for pair in $(seq "$pairs"); do
  # The order alternates: a machine that drifts favours nobody.
  if [ $((pair % 2)) = 0 ]; then a=$(measure "$old") b=$(measure "$new"); else b=$(measure "$new") a=$(measure "$old"); fi
  python3 -c 'import sys; a, b = map(float, sys.argv[1:]); print(f"old {a:.1f} us, new {b:.1f} us, new / old {b / a:.3f}")' "$a" "$b" | tee -a "$work/pairs"
done
python3 - "$work/pairs" <<'PYTHON'
import statistics, sys

ratios = sorted(float(line.split()[-1]) for line in open(sys.argv[1]))
print(f"median of {len(ratios)} pairs: {statistics.median(ratios):.3f} [{ratios[0]:.3f}..{ratios[-1]:.3f}]")
PYTHON
