#!/usr/bin/env bash
# Time and memory of emulating the shipped jobs with real ranks, one step each.
# Usage: bench/emulate_scale.sh [TROUPE]
set -euo pipefail

troupe=${1:-build/release/bin/troupe}
printf '%-24s %6s %9s %9s %12s\n' job ranks wall_s cpu_s memory_MiB
for job in hspmd-case13 hspmd-case5 hexiscale-het1 mixed-1024gpu; do
  log=$(mktemp)
  # GNU time: elapsed, user, system seconds and peak KiB.
  /usr/bin/time -f '%e %U %S %M' -o "$log" \
    "$troupe" emulate "$job" --shrink --steps 1 --json >"$log.json"
  ranks=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["ranks"])' "$log.json")
  read -r wall user system peak <"$log"
  awk -v j="$job" -v r="$ranks" -v w="$wall" -v u="$user" -v s="$system" -v p="$peak" \
    'BEGIN { printf "%-24s %6d %9.1f %9.1f %12.0f\n", j, r, w, u + s, p / 1024 }'
  rm -f "$log" "$log.json"
done
