#!/usr/bin/env bash
# Programs that tests need and that pip does not bring, into .tools: prometheus and promtool, chromium, axe-core.
# What the machine has is used. Else Prometheus is unpacked from Debian's package without being installed; Chromium alone, which needs
# libraries, is installed where we may. `deploy/tools.sh NAME...` sees to those named only.
set -euo pipefail
cd "$(dirname "$0")/.."

AXE_VERSION=4.14.1
AXE_SHA512=1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b734f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5
TOOLS=$PWD/.tools
BIN=$TOOLS/bin
mkdir -p "$BIN"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

give_up() {
  echo "deploy/tools.sh: $*" >&2
  exit 1
}

# apt with lists of its own, for a machine whose lists are empty or may not be renewed by us.
own_apt() {
  mkdir -p "$TOOLS/apt/lists/partial" "$TOOLS/apt/cache/archives/partial"
  apt-get --quiet=2 -o "Dir::State::Lists=$TOOLS/apt/lists" -o "Dir::Cache=$TOOLS/apt/cache" -o APT::Sandbox::User= "$@"
}

# The programs named, from where they are on the path, or from Debian's package of the first name.
from_package() {
  local program
  if command -v "$@" >/dev/null && [ "$(command -v "$@" | wc -l)" -eq $# ]; then
    for program; do ln -sfn "$(command -v "$program")" "$BIN/$program"; done
    return
  fi
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || give_up "$* are missing: install Prometheus, so that they are on the path"
  (
    cd "$scratch"
    apt-get --quiet=2 download "$1" 2>/dev/null || { own_apt update && own_apt download "$1"; }
  ) || give_up "Debian's package $1 cannot be had: install it, so that $* are on the path"
  dpkg-deb --extract "$scratch/$1"_*.deb "$TOOLS/$1"
  for program; do ln -sfn "../$1/usr/bin/$program" "$BIN/$program"; done
}

see_to_prometheus() {
  from_package prometheus promtool
  "$BIN/prometheus" --version >/dev/null 2>&1 || give_up "$BIN/prometheus does not run: install Prometheus, so that it is on the path"
}

see_to_chromium() {
  local found
  found=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
  if [ -z "$found" ]; then
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || give_up "Chromium is missing: as root, apt-get install chromium"
    local install=(apt-get --quiet=2 --yes --no-install-recommends install chromium)
    "${install[@]}" 2>/dev/null || { apt-get --quiet=2 update && "${install[@]}"; } || give_up "Debian's package chromium cannot be installed"
    found=$(command -v chromium)
  fi
  ln -sfn "$found" "$BIN/chromium"
}

see_to_axe() {
  local archive="axe-core-$AXE_VERSION.tgz"
  [ "$(cat "$TOOLS/axe-core/version" 2>/dev/null)" = "$AXE_VERSION" ] && return
  command -v npm >/dev/null || give_up "npm is missing, which brings axe-core: install npm"
  (cd "$scratch" && npm pack --silent "axe-core@$AXE_VERSION" >/dev/null) || give_up "axe-core $AXE_VERSION cannot be had from npm"
  echo "$AXE_SHA512  $scratch/$archive" | sha512sum --check --quiet || give_up "$archive is not the one that was tested"
  rm -rf "$TOOLS/axe-core" && mkdir -p "$TOOLS/axe-core"
  tar --extract --gzip --file "$scratch/$archive" --directory "$TOOLS/axe-core" --strip-components 1 package/axe.min.js package/LICENSE
  echo "$AXE_VERSION" >"$TOOLS/axe-core/version"
}

[ $# -gt 0 ] || set -- prometheus chromium axe
for name; do
  case $name in
    prometheus | chromium | axe) "see_to_$name" ;;
    *) give_up "no such tool: $name" ;;
  esac
done
