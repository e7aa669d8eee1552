#!/usr/bin/env bash
# Which system calls does a warm server make?  perf/syscalls.sh
#
# Starts the release build, puts a warm load of reads and then of writes on it, and counts calls with strace for two seconds
# each. Fails if a read load makes any call but epoll_wait and the reads and writes of sockets, or a write load any on the
# worker's thread but those and io_uring_enter. Three stray calls of a kind are let pass: while a segment changes hands its
# file is closed and the store thread is told. Needs strace; the load is slower under it, the kinds of calls are the same.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bin=${CARGO_TARGET_DIR:-$root/target}/release
work=$(mktemp -d)
port=${PORT:-22199}
printf 'dataDir=%s\nclientPort=%s\nmaxClientCnxns=0\n4lw.commands.whitelist=*\n' "$work/data" "$port" >"$work/zoo.cfg"
"$bin/zorilla" server "$work/zoo.cfg" >"$work/log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true; wait $server 2>/dev/null || true; rm -rf "$work"' EXIT
sleep 1
worker=$(grep -l '^worker' /proc/$server/task/*/comm | head -1 | cut -d/ -f5)

# watch KIND SHAPE ALLOWED: traces the worker while the load runs.
watch() {
    "$bin/zorilla-perf" load --address "127.0.0.1:$port" --seconds 6 --warmup 1 "$2" >"$work/load" &
    local load=$!
    sleep 3
    timeout 2 strace -c -p "$worker" -o "$work/trace" || true
    wait $load
    local requests
    requests=$(awk '/^sum|calls/ { next } $NF == "recvfrom" { print $4 }' "$work/trace")
    echo "== $1 ($2): $(head -1 "$work/load")"
    awk -v requests="$((requests * 32))" '$4 ~ /^[0-9]+$/ && $NF != "total" {
        printf "%-16s %8d calls  %8.2f per 1,000 requests\n", $NF, $4, 1000 * $4 / requests }' "$work/trace"
    local others
    others=$(awk -v allowed="$3" '$4 ~ /^[0-9]+$/ && $NF != "total" && allowed !~ " " $NF " " && 3 < $4 { print $NF }' "$work/trace")
    [ -z "$others" ] || { echo "unexpected: $others"; return 1; }
}

watch reads get-1k:128x32 " epoll_wait recvfrom sendto "
watch writes set-1k:128x32 " epoll_wait recvfrom sendto io_uring_enter "
echo "ok: no other call, or three at the most"
