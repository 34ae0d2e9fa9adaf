#!/usr/bin/env bash
# Everything that only a GPU shows, in one call of at most ten minutes:
# correctness of every CUDA operator, a profile of the shipped model shapes,
# achieved shares of the machine's two ceilings, the same shapes in PyTorch.
#
#   bench/gpu/run_all.sh [OUT] [BIN]
#
# OUT  folder for the results (default: $OUT, else ./gpu-results). What lies
#      there after the run is enough to take the measurements in at home:
#      troupe ingest OUT/measured.csv
# BIN  folder of troupe and kernel_check (default: build/cuda/bin). They may
#      come from another machine: bench/gpu/pack.sh collects them.
# BUDGET  seconds of the profiler (default 300).
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=${1:-${OUT:-gpu-results}}
bin=${2:-$root/build/cuda/bin}
budget=${BUDGET:-300}
mkdir -p "$out"

# Libraries of Python packages (nvidia-cublas and so on), where there are any.
packages=$(python3 - <<'PY' 2>/dev/null
import glob, site, sys
roots = site.getsitepackages() + [site.getusersitepackages()] + sys.path
print(":".join(sorted({d for r in roots for d in
                       glob.glob(r + "/nvidia/*/lib")})))
PY
)
export LD_LIBRARY_PATH="$bin/lib:$packages:/usr/local/cuda/lib64:${LD_LIBRARY_PATH:-}"
export TROUPE_HOME="$out/home" TROUPE_DATA="${TROUPE_DATA:-$root}"

for program in troupe kernel_check; do
  if [ ! -x "$bin/$program" ]; then
    echo "no $bin/$program; build it with: cmake --preset cuda && cmake --build --preset cuda --target troupe kernel_check" >&2
    exit 1
  fi
done

failed=0
step() { # step NAME SECONDS COMMAND...
  local name=$1 limit=$2 from=$SECONDS
  shift 2
  echo "== $name" >&2
  if ! timeout --signal=INT --kill-after=10 "$limit" "$@"; then
    echo "$name: failed or ran over $limit s" | tee -a "$out/failures.txt" >&2
    failed=1
  fi
  echo "   $((SECONDS - from)) s" >&2
}

rm -f "$out/failures.txt"
{
  date -u +%FT%TZ
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.max.sm,power.limit,temperature.gpu \
    --format=csv 2>/dev/null
  "$bin/troupe" --version
} >"$out/machine.txt"

step "operators against their CPU bodies" 120 \
  "$bin/kernel_check" --json >"$out/kernel_check.json"
step "profile" $((budget + 45)) \
  "$bin/troupe" profile --device cuda:0 --budget "${budget}s" \
  --profiles "$out/profiles.db" --json >"$out/profile.json"
step "export" 20 \
  "$bin/troupe" profiles export --profiles "$out/profiles.db" -o "$out/measured.csv"
rm -f "$out/profiles.db" "$out/profiles.db-wal" "$out/profiles.db-shm"
rm -rf "$out/home"
step "the same shapes in PyTorch" 120 \
  python3 "$here/compare_torch.py" "$out/profile.json" "$out/torch.json"
python3 "$here/summary.py" "$out" | tee "$out/summary.txt"
exit $failed
