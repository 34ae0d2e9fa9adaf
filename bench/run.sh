#!/usr/bin/env bash
# Whole-program times and peak memory from files to printed answer, then the
# micro-benchmarks where they are built (-DTROUPE_BENCH=ON).
set -euo pipefail
cd "$(dirname "$0")/.."
troupe=${TROUPE_BINARY:-build/release/bin/troupe}
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
export TROUPE_HOME=$home
"$troupe" ingest --shipped >/dev/null

measure() {
  local title=$1
  shift
  for _ in 1 2 3 4 5; do
    /usr/bin/time -f '%U %S %M' -o "$home/time" "$troupe" simulate "$@" \
      --no-store >/dev/null 2>&1
    awk '{print ($1 + $2) * 1000, $3 / 1024}' "$home/time"
  done | sort -n | awk -v title="$title" '
    {cpu[NR] = $1; if ($2 > memory) memory = $2}
    END {printf "%-46s %6.0f ms CPU (median of %d)  %6.1f MiB\n",
         title, cpu[int((NR + 1) / 2)], NR, memory}'
}

measure '70B, 1,024 mixed GPUs, 64 micro-batches' mixed-1024gpu
measure '70B, 1,024 GPUs, TP 8 PP 8 DP 16' llama2-70b-1024
measure '70B, 16,384 GPUs, TP 8 PP 8 DP 256' llama2-70b-1024 \
  --cluster h100-16384 --set dp=256
measure '175B, 1,024 GPUs, every operator on every rank' gpt3-175b-1024 \
  --detail operators --no-fold
bench=$(dirname "$troupe")/troupe_bench
if [ -x "$bench" ]; then "$bench"; fi
