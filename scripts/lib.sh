# What the scripts share: where things are, what has to be installed, and nodes as processes.
# shellcheck shell=bash

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
# What is installed for building and testing; goes away with the build.
tools=$target/tools
# Where nodes keep data, log and pid file, and where the first one listens.
cluster_dir=${BRISTLECONE_CLUSTER_DIR:-$root/.cluster}
first_port=${BRISTLECONE_FIRST_PORT:-7233}

say() { printf '%s\n' "$*" >&2; }
die() {
  say "$(basename "$0"): $*"
  exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

# ---------------------------------------------------------------- installing

# Runs a system package manager if one is at hand and this user may.
install_packages() {
  if has apt-get && [ "$(id -u)" = 0 ]; then
    say "installing $*"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null
  else
    return 1
  fi
}

need_rust() {
  has cargo || die "cargo is missing: install a Rust toolchain (1.92 or newer) first"
  local minor
  minor=$(rustc --version | sed -E 's/^rustc 1\.([0-9]+).*/\1/')
  [ "$minor" -ge 92 ] || die "$(rustc --version) is too old: 1.92 or newer is needed"
}

need_cxx() {
  has c++ || has g++ || has clang++ || install_packages g++ || die "a C++ compiler is missing (the storage engine is C++)"
}

# bindgen reads the storage engine's headers through libclang. The wheel of that name brings the library
# without root, but not clang's own headers: gcc's stand in for them.
need_libclang() {
  [ -z "${LIBCLANG_PATH:-}" ] || return 0
  if has ldconfig && ldconfig -p | grep -qE 'libclang(-[0-9.]+)?\.so'; then return 0; fi
  if compgen -G '/usr/lib/llvm*/lib/libclang.so*' >/dev/null || compgen -G '/usr/lib64/libclang.so*' >/dev/null; then
    return 0
  fi
  if [ "$(uname)" = Darwin ] && xcode-select -p >/dev/null 2>&1; then return 0; fi
  local wheel=$tools/libclang
  if [ ! -d "$wheel/clang/native" ]; then
    say "libclang is missing: installing it into $wheel"
    if has python3 && python3 -m pip --version >/dev/null 2>&1; then
      python3 -m pip install --quiet --disable-pip-version-check --target "$wheel" libclang
    else
      install_packages libclang-dev || die "libclang is missing: install it, or python3 with pip"
      return 0
    fi
  fi
  export LIBCLANG_PATH=$wheel/clang/native
  if has gcc; then
    export BINDGEN_EXTRA_CLANG_ARGS=${BINDGEN_EXTRA_CLANG_ARGS:-"-I$(gcc -print-file-name=include)"}
  fi
}

# A part of the Rust toolchain that may have been left out of it.
need_component() {
  cargo "${1/rust/}" --version >/dev/null 2>&1 && return
  has rustup && rustup component add "$1" && return
  die "$1 is missing in the Rust toolchain"
}

# Everything that a build needs.
need_build_tools() {
  need_rust
  need_cxx
  need_libclang
}

# The program, built when it is not up to date; BRISTLECONE_BIN names one that is there already.
build_bristlecone() {
  if [ -n "${BRISTLECONE_BIN:-}" ]; then
    bristlecone=$BRISTLECONE_BIN
    return
  fi
  need_build_tools
  [ -x "$target/release/bristlecone" ] || say "building (the first time takes several minutes)"
  # The whole workspace decides about features, as in scripts/test: then the storage engine is built once.
  (cd "$root" && cargo build --quiet --release --workspace --bins)
  bristlecone=$target/release/bristlecone
}

# ---------------------------------------------------------------- nodes

api_port() { echo $((first_port + 100 * ($1 - 1))); }
api_address() { echo "127.0.0.1:$(api_port "$1")"; }
internal_address() { echo "127.0.0.1:$(($(api_port "$1") + 1))"; }
node_dir() { echo "$cluster_dir/n$1"; }

# Numbers of the nodes that have a directory.
nodes() {
  local dir
  for dir in "$cluster_dir"/n*/; do
    if [ -d "$dir" ]; then basename "$dir" | tr -d n; fi
  done | sort -n
}

# All API addresses, with commas.
addresses() {
  local n list=''
  for n in $(nodes); do list=${list:+$list,}$(api_address "$n"); done
  echo "$list"
}

node_pid() { cat "$(node_dir "$1")/pid" 2>/dev/null || echo 0; }

is_running() {
  local pid
  pid=$(node_pid "$1")
  # A dead process that nobody has waited for yet (Z) does not run.
  [ "$pid" != 0 ] && ps -o stat=,comm= -p "$pid" | grep -q '^[^Z].*bristlecone'
}

require_node() {
  [[ ${1:-} =~ ^[1-9]$ ]] || die "say which node: 1, 2, …"
  [ -d "$(node_dir "$1")" ] || die "there is no node $1"
}

# Starts node N in the background. The very first one founds the cluster; every other joins those that were
# started before it. A node that has data is just started, whatever it is told.
start_node() {
  local n=$1 dir seeds='' other role
  dir=$(node_dir "$n")
  is_running "$n" && return
  for other in $(nodes); do
    # The data of one that was started a moment ago may not be there yet; its pid file is.
    if [ "$other" != "$n" ] && { [ -e "$(node_dir "$other")/pid" ] || [ -e "$(node_dir "$other")/data" ]; }; then
      seeds=${seeds:+$seeds,}$(internal_address "$other")
    fi
  done
  if [ -z "$seeds" ]; then role=(--bootstrap); else role=(--join "$seeds"); fi
  mkdir -p "$dir"
  # A process group of its own: Ctrl-C is for the script, which stops nodes in order.
  set -m
  nohup "$bristlecone" start --data-dir "$dir/data" --node-name "n$n" --listen "$(api_address "$n")" \
    --internal-listen "$(internal_address "$n")" "${role[@]}" >>"$dir/log" 2>&1 </dev/null &
  echo $! >"$dir/pid"
  set +m
}

# kill -9.
kill_node() {
  is_running "$1" || return 0
  kill -9 "$(node_pid "$1")"
  while is_running "$1"; do sleep 0.05; done
}

# Asks nodes to stop (they hand their leaderships over), and waits until they have.
stop_nodes() {
  local n tries=0
  for n in "$@"; do
    if is_running "$n"; then kill "$(node_pid "$n")"; fi
  done
  for n in "$@"; do
    while is_running "$n"; do
      tries=$((tries + 1))
      if [ $tries -ge 300 ]; then
        say "node $n does not stop: killing it"
        kill_node "$n"
      fi
      sleep 0.1
    done
    rm -f "$(node_dir "$n")/pid"
  done
}

# Whether node N is a member that serves.
is_member() {
  "$bristlecone" cluster members --address "$(addresses)" 2>/dev/null | grep -F " $(api_address "$1") " | grep -q ' ready '
}

# Waits until these nodes are members that serve.
wait_members() {
  local n
  for n in "$@"; do wait_until "$n" is_member "$n"; done
}

# Waits until these nodes are members, and everything has its replicas and leaders.
wait_healthy() {
  wait_members "$@"
  wait_until "$1" healthy
}

healthy() { "$bristlecone" cluster health --address "$(addresses)" >/dev/null 2>&1; }

# Whether something listens on the API port of node N, which is so before the others hear of it.
serves() { (exec 3<>"/dev/tcp/$(api_address "$1" | tr : /)") 2>/dev/null; }

# Waits for a condition, for a minute, and while node N lives.
wait_until() {
  local n=$1 tries=0
  shift
  until "$@"; do
    is_running "$n" || { tail -n 5 "$(node_dir "$n")/log" >&2 && die "node $n has ended; its log: $(node_dir "$n")/log"; }
    tries=$((tries + 1))
    if [ $tries -ge 300 ]; then
      "$bristlecone" cluster health --address "$(addresses)" >&2 || true
      die "node $n is not well after a minute; its log: $(node_dir "$n")/log"
    fi
    sleep 0.2
  done
}
