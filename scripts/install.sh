#!/usr/bin/env bash
# Installs packages on Debian 12 / Ubuntu 24.04: what a build needs, and with
# "tests" also what the tests need. Packages already there cost nothing.
set -euo pipefail

build=(g++ cmake ninja-build ccache pkg-config
  libsqlitecpp-dev libsqlite3-dev libfmt-dev
  nlohmann-json3-dev libcli11-dev libexpected-dev libtbb-dev libxxhash-dev
  libeigen3-dev zlib1g-dev libboost-context-dev libpcre2-dev libutf8proc-dev
  libsentencepiece-dev)
tests=(libgtest-dev libgmock-dev librapidcheck-dev libsimgrid-dev python3)
# Tests that need these are skipped without them (not every release has them).
optional=(python3-torch libopenmpi-dev openmpi-bin sentencepiece)

wanted=("${build[@]}")
if [ "${1:-}" = tests ]; then wanted+=("${tests[@]}"); else optional=(); fi

# Prints those of its arguments that are not installed.
missing() {
  local package status
  for package in "$@"; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || echo "$package"
  done
}
mapfile -t needed < <(missing "${wanted[@]}")
mapfile -t wished < <(missing "${optional[@]}")
[ $((${#needed[@]} + ${#wished[@]})) -gt 0 ] || exit 0

sudo=()
if [ "$(id -u)" != 0 ]; then sudo=(sudo); fi
install() {
  echo "installing: $*" >&2
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq \
    --no-install-recommends "$@" >/dev/null
}
if [ ${#needed[@]} -gt 0 ]; then
  "${sudo[@]}" apt-get update -qq
  install "${needed[@]}"
else
  "${sudo[@]}" apt-get update -qq || true
fi
for package in "${wished[@]}"; do
  install "$package" || echo "$package is left out; its tests will be skipped" >&2
done
