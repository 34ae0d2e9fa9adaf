#!/usr/bin/env bash
# Collects troupe and kernel_check with the libraries that a bare machine
# lacks in one archive, so that bench/gpu/run_all.sh runs where nothing can be
# installed.
#
#   bench/gpu/pack.sh [BUILD] [TO]     (build/cuda, gpu-pack.tar.gz)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${1:-$root/build/cuda}
to=${2:-$root/gpu-pack.tar.gz}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/lib"
for program in troupe kernel_check; do
  cp "$build/bin/$program" "$work/"
  strip "$work/$program"
  needed=$(ldd "$work/$program")
  if grep "not found" <<<"$needed" >&2; then
    echo "pack.sh: $program needs libraries that are not here" >&2
    exit 1
  fi
  # The C library stays the machine's own.
  awk '$3 ~ /^\// {print $3}' <<<"$needed" |
    grep -vE '/(libc|libm|libdl|libpthread|librt|ld-linux[^/]*)\.so' || true
done | sort -u | xargs -r -I{} cp -L {} "$work/lib/"
tar -C "$work" -czf "$to" troupe kernel_check lib
du -h "$to" >&2
