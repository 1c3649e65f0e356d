#!/usr/bin/env bash
# config/kubernetes and config/pipelines against the schemas of three versions of Kubernetes (and of Argo Workflows),
# read strictly: a misspelt key fails.
#   tests/kubernetes.sh
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'tests/kubernetes.sh: %s\n' "$*" >&2; exit 1; }
versions=(1.33 1.35 1.37)
venv="$PWD/target/tools/kubernetes-validate"
requirements=tests/requirements-kubernetes.txt
installed="$venv $(sha256sum <$requirements)"
if [ "$(cat "$venv/installed" 2>/dev/null)" != "$installed" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary=:all: \
    --require-hashes --requirement $requirements
  echo "$installed" >"$venv/installed"
fi

# kustomization.yaml is read by kustomize, never by a cluster. The kinds of the Prometheus operator have no schema in
# Kubernetes: derive.py holds them against what they name.
mapfile -t files < <(find config/kubernetes -name '*.yaml' ! -name kustomization.yaml ! -name podmonitor.yaml \
  ! -name prometheusrule.yaml ! -name unlock.yaml | sort)
[ "${#files[@]}" -gt 0 ] || fail "there is nothing in config/kubernetes"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
# A part of a container is checked within a pod.
"$venv/bin/python" -B tests/kubernetes/derive.py --unlocking >"$scratch/unlocking.yaml"
files+=("$scratch/unlocking.yaml")
for version in "${versions[@]}"; do
  "$venv/bin/kubernetes-validate" --quiet --strict --kubernetes-version "$version" "${files[@]}"
  echo "  Kubernetes $version: ${#files[@]} files"
done

# So it does complain where there is something to complain about.
for wrong in s/readOnlyRootFilesystem/readOnlyRootFileSystem/ 's/replicas: 2/replicas: two/' s/restartPolicy/restartpolicy/; do
  sed "$wrong" config/kubernetes/sidecar/statefulset.yaml >"$scratch/wrong.yaml"
  ! "$venv/bin/kubernetes-validate" --quiet --strict --kubernetes-version "${versions[0]}" "$scratch/wrong.yaml" \
    >"$scratch/said" 2>&1 || fail "$wrong is not seen"
done
# What each kustomization names is there.
for list in config/kubernetes/*/kustomization.yaml; do
  for name in $(sed -n 's/^  - \([a-z-]*\.yaml\)$/\1/p' "$list"); do
    [ -f "$(dirname "$list")/$name" ] || fail "$list names $name, which is not there"
  done
done
# What is made of other files is what it is made of.
"$venv/bin/python" -B tests/kubernetes/derive.py
# What pipelines run.
"$venv/bin/python" -B tests/pipelines/check.py "${versions[@]}"
