#!/usr/bin/env bash
# Measures the proxy side by side with what it cannot do without; see docs/internals/performance.md.
#   benches/run.sh                          about 7 minutes
#   benches/run.sh --quick                  half a minute: does it work
#   benches/run.sh --seconds 2 --json FILE  all options: --help
set -euo pipefail
cd "$(dirname "$0")/.."

# The proxy as it is shipped, then the harness beside it.
cargo build --release --locked --quiet
cargo run --release --locked --quiet -p benches --bin side-by-side -- "$@"
