#!/usr/bin/env bash
# Collects troupe and kernel_check with the libraries that a bare machine
# lacks, so that bench/gpu/run_all.sh runs where nothing can be installed.
#
#   bench/gpu/pack.sh [BUILD] [TO]     (build/cuda, gpu-pack)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${1:-$root/build/cuda}
to=${2:-$root/gpu-pack}
rm -rf "$to"
mkdir -p "$to/lib"
for program in troupe kernel_check; do
  cp "$build/bin/$program" "$to/"
  strip "$to/$program"
  # The C library stays the machine's own.
  ldd "$to/$program" | awk '$3 ~ /^\// {print $3}' |
    grep -vE '/(libc|libm|libdl|libpthread|librt|ld-linux[^/]*)\.so' |
    xargs -r -I{} cp -Ln {} "$to/lib/"
done
du -sh "$to" >&2
