#!/usr/bin/env bash
# Everything that only a GPU shows, in one call of at most ten minutes:
# correctness of every CUDA operator, a profile of the shipped model shapes,
# achieved shares of the machine's two ceilings, the same shapes in PyTorch,
# products against cuBLASLt's best, attention against cuDNN's, training steps
# (equal to one rank on the CPU, several ranks on one card among them; measured
# against simulated), links (copies; collectives where there are several GPUs).
#
#   bench/gpu/run_all.sh [OUT] [BIN]
#
# OUT  folder for the results (default: $OUT, else ./gpu-results): at most
#      eight files of at most 16 MiB. What lies there after the run is enough
#      to take the measurements in at home: troupe ingest OUT/measured.csv
# BIN  folder of troupe and kernel_check (default: build/cuda/bin), or the
#      archive of both that bench/gpu/pack.sh makes on another machine.
# BUDGET  seconds of the profiler's operators (default 180).
# TOTAL   seconds of the whole run (default 570).
# LIMITS  percent of every step's own time limit (default 100; for tests).
#
# Every step has a time limit of its own and none stops the others; results
# are written as they come, the summary after every step.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=${1:-${OUT:-gpu-results}}
bin=${2:-$root/build/cuda/bin}
budget=${BUDGET:-180}
end=$((SECONDS + ${TOTAL:-570}))
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log="$out/log.txt"
: >"$log"

say() { echo "$*" | tee -a "$log" >&2; }

if [ -f "$bin" ]; then
  mkdir "$work/bin"
  if ! tar -C "$work/bin" -xzf "$bin" 2>>"$log"; then
    say "$bin cannot be unpacked"
    exit 1
  fi
  bin="$work/bin"
fi

# Libraries of Python packages (nvidia-cublas and so on), where there are any.
packages=$(timeout 20 python3 - <<'PY' 2>/dev/null
import glob, site, sys
roots = site.getsitepackages() + [site.getusersitepackages()] + sys.path
print(":".join(sorted({d for r in roots for d in
                       glob.glob(r + "/nvidia/*/lib")})))
PY
)
own_path="${LD_LIBRARY_PATH:-}"
export LD_LIBRARY_PATH="$bin/lib:$packages:/usr/local/cuda/lib64:${LD_LIBRARY_PATH:-}"
export TROUPE_HOME="$work/home" TROUPE_DATA="${TROUPE_DATA:-$root}"

failed=0
# Runs a command under the smaller of its own limit and what is left of the
# whole; its answer goes to a file, its complaints to the log. 77 is a skip.
step() { # step NAME SECONDS FILE COMMAND...
  local name=$1 limit=$(($2 * ${LIMITS:-100} / 100)) file=$3 from=$SECONDS left=$((end - SECONDS)) code
  shift 3
  if [ "$left" -lt 5 ]; then
    say "$name: no time left"
    failed=1
    return 1
  fi
  [ "$limit" -gt "$left" ] && limit=$left
  [ "$limit" -lt 1 ] && limit=1 # to timeout, 0 is for ever
  say "== $name (at most $limit s)"
  timeout --signal=INT --kill-after=10 "$limit" "$@" \
    >"$file" 2>"$work/complaints" </dev/null
  code=$?
  tail -c 20000 "$work/complaints" >>"$log"
  case $code in
    0) say "   $((SECONDS - from)) s" ;;
    77) say "   skipped: $(tail -n 1 "$work/complaints")" ;;
    *)
      case $code in
        124 | 137) say "   FAILED: $name ran over $limit s" ;;
        *) say "   FAILED: $name ended with $code after $((SECONDS - from)) s: $(tail -n 1 "$work/complaints")" ;;
      esac
      failed=1
      ;;
  esac
  return $code
}

# Never lets a result be lost for its size: what is over 15 MiB is cut.
keep() { # keep FILE NAME
  [ -s "$1" ] || return 0
  head -c 15728640 "$1" >"$out/$2"
}

# Whole training steps; what comes of each is a line of bodies.jsonl.
training() { # training NAME SECONDS OPTIONS...
  local name=$1 limit=$2
  shift 2
  step "training: $name" "$limit" "$work/answer" \
    "$bin/troupe" emulate "$here/training/$name.json" --device cuda:0 --json "$@"
  add_line "{\"training\": \"$name\", \"options\": \"$*\", \"answer\": "
}
add_line() { # add_line BEGINNING
  timeout 20 python3 -c 'import json, sys
text = sys.stdin.read()
print(sys.argv[1] + json.dumps(json.loads(text) if text else None) + "}")' \
    "$1" <"$work/answer" >>"$work/bodies" 2>>"$log"
  keep "$work/bodies" bodies.jsonl
}

summarise() {
  timeout 20 python3 "$here/summary.py" "$out" >"$work/summary" 2>>"$log" &&
    cp "$work/summary" "$out/summary.txt"
}

export_rows() {
  [ -e "$work/profiles.db" ] || return 0
  step "export" 30 /dev/null "$bin/troupe" profiles export \
    --profiles "$work/profiles.db" -o "$work/measured.csv" &&
    keep "$work/measured.csv" measured.csv
}

{
  date -u +%FT%TZ
  timeout 20 nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.max.sm,power.limit,temperature.gpu \
    --format=csv
  timeout 20 nvidia-smi topo -m
} >>"$log" 2>&1
missing=0
for program in troupe kernel_check; do
  if [ ! -x "$bin/$program" ]; then
    say "no $bin/$program; build it with: cmake --preset cuda && cmake --build --preset cuda --target troupe kernel_check"
    missing=1
  elif ! timeout 20 "$bin/$program" --help >/dev/null 2>"$work/complaints" &&
    grep -q "shared libr" "$work/complaints"; then
    say "$bin/$program does not start: $(tail -n 1 "$work/complaints")"
    missing=1
  fi
done
[ "$missing" = 1 ] && exit 1
timeout 20 "$bin/troupe" --version >>"$log" 2>&1

# Attention by cuDNN has a step of its own below. A kernel that hangs or
# breaks the context takes the cases after it along: then family by family.
# After wrong results (3) all cases have run.
step "operators against their CPU bodies" 90 "$work/check" \
  env TROUPE_ATTENTION=own "$bin/kernel_check" --json
code=$?
cp "$work/check" "$work/checks"
keep "$work/checks" kernel_check.jsonl
if [ $code -ne 0 ] && [ $code -ne 3 ]; then
  until=$((SECONDS + 60))
  for family in gemm attention norm rotary activation add bias embedding \
    cross_entropy adamw square_sum clip_factor cast copy; do
    [ "$SECONDS" -gt "$until" ] && break
    step "operators: $family" 15 "$work/check" \
      env TROUPE_ATTENTION=own "$bin/kernel_check" --json --only "^$family"
    { echo "{\"family\": \"$family\"}"; cat "$work/check"; } >>"$work/checks"
    keep "$work/checks" kernel_check.jsonl
  done
fi
summarise

step "profile of operators" $((budget + 30)) "$work/profile.json" \
  "$bin/troupe" profile --only operators --device cuda:0 \
  --budget "${budget}s" --profiles "$work/profiles.db" --json
keep "$work/profile.json" profile.json
export_rows
summarise

# Where the profiler died, its rows are still in the database.
shapes="$work/profile.json"
[ -s "$shapes" ] || shapes="$out/measured.csv"
# PyTorch brings its own libraries.
step "the same shapes in PyTorch" 110 /dev/null \
  env LD_LIBRARY_PATH="$own_path" python3 "$here/compare_torch.py" "$shapes" "$work/torch.json" --seconds 80
keep "$work/torch.json" torch.json
summarise

kind=h100-sxm
timeout 20 nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null |
  grep -q H200 && kind=h200
training one 30 --verify --precision fp32
training grid 40 --verify --precision fp32
training ring 40 --verify --precision bf16
training shards 40 --verify --precision bf16
training speed 60 --precision bf16 --steps 6
# The same step by the prices of this very GPU.
step "the simulated step" 30 "$work/answer" \
  "$bin/troupe" simulate "$here/training/speed.json" --no-store --json \
  --cluster "1 x $kind per node, 1 node" --profiles "$work/profiles.db"
add_line "{\"simulated\": \"speed\", \"answer\": "
summarise

step "products against cuBLASLt's best" 60 "$work/gemm" \
  "$bin/kernel_check" --gemm-best 40
cat "$work/gemm" >>"$work/bodies" 2>/dev/null
keep "$work/bodies" bodies.jsonl
summarise

step "attention by the own kernels and by cuDNN" 50 "$work/attention" \
  "$bin/kernel_check" --attention-bodies 35
cat "$work/attention" >>"$work/bodies"
keep "$work/bodies" bodies.jsonl
summarise

# Every attention case by cuDNN, on outputs that hold NaN.
step "attention by cuDNN against the CPU body" 90 "$work/check" \
  env TROUPE_ATTENTION=cudnn "$bin/kernel_check" --json --only ^attention
{ echo '{"family": "attention by cuDNN"}'; cat "$work/check"; } >>"$work/checks"
keep "$work/checks" kernel_check.jsonl
summarise

# In a process of its own: a link that hangs loses no operator.
step "links" 60 "$work/links.json" \
  "$bin/troupe" profile --only links --device cuda:0 --budget 40s \
  --profiles "$work/profiles.db" --json
keep "$work/links.json" links.json
export_rows
summarise
cat "$out/summary.txt" 2>/dev/null
exit $failed
