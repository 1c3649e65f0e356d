#!/usr/bin/env bash
# The programs beside cargo that build and check this project, at pinned versions.
#   packaging/tools.sh NAME...   installs what is missing into target/tools/bin
set -euo pipefail
cd "$(dirname "$0")/.."

# The one place that pins them.
declare -A versions=(
  [cargo-auditable]=0.7.7
  [cargo-cyclonedx]=0.5.9
  [cargo-deny]=0.20.2
  [cargo-fuzz]=0.13.2
)

[ $# -gt 0 ] || { echo "usage: packaging/tools.sh NAME..., of: ${!versions[*]}" >&2; exit 2; }
tools="$PWD/target/tools"
for name in "$@"; do
  version="${versions[$name]:-}"
  [ -n "$version" ] || { echo "packaging/tools.sh: $name is none of: ${!versions[*]}" >&2; exit 2; }
  if [ -x "$tools/bin/$name" ] && grep -qF "\"$name $version " "$tools/.crates.toml"; then
    continue
  fi
  # They work for seconds: optimizing them would take longer than that.
  cargo install --locked --quiet --debug --root "$tools" --target-dir "$tools/build" \
    --version "=$version" "$name"
done
# Gigabytes that nobody needs any more.
rm -rf "$tools/build"
