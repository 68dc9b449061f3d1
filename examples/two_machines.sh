#!/usr/bin/env bash
# Two machines that talk over NATS, played on one: each has a folder of its own, and only the broker between them.
#
# usage: examples/two_machines.sh
#
# Needs nats-server (Debian: apt-get install nats-server) and a Rust toolchain. SIDEWIRE and SIDEWIRE_BRIDGE name the
# two programs where they are built already. Each step says what it shows, and fails if it is otherwise. It takes about
# half a minute, and leaves nothing behind.

set -euo pipefail
cd "$(dirname "$0")/.."
case ${1-} in
    "") ;;
    -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" && exit ;;
    *) echo "no such option: $1" >&2 && exit 2 ;;
esac

command -v nats-server >/dev/null || { echo "there is no nats-server: apt-get install nats-server" >&2 && exit 1; }
if [ -z "${SIDEWIRE-}" ]; then
    cargo build --quiet --features cli --bin sidewire
    SIDEWIRE=${CARGO_TARGET_DIR:-target}/debug/sidewire
fi
if [ -z "${SIDEWIRE_BRIDGE-}" ]; then
    cargo build --quiet --locked --manifest-path bridge/Cargo.toml
    SIDEWIRE_BRIDGE=${CARGO_TARGET_DIR:-bridge/target}/debug/sidewire-bridge
fi

folder=$(mktemp -d)
mkdir "$folder/one" "$folder/two"
near=unix:$folder/one/store far=unix:$folder/two/store
declare -A processes=()

finish() {
    local status=$?
    [ "${#processes[@]}" -eq 0 ] || kill "${processes[@]}" 2>/dev/null || true
    wait
    [ "$status" -eq 0 ] || tail -n 20 "$folder"/*.log >&2
    rm -rf "$folder"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start NAME LINE COMMAND...: in the background, until it has said this once more than before.
start() {
    local name=$1 line=$2 before
    shift 2
    before=$(said "$name" "$line")
    "$@" >>"$folder/$name.log" 2>&1 &
    processes[$name]=$!
    await "$name" "$line" "$before"
}
said() { # NAME LINE
    local times
    times=$(grep -csF "$2" "$folder/$1.log" || true)
    echo "${times:-0}"
}
await() { # NAME LINE BEFORE
    local end=$((SECONDS + 60))
    until [ "$(said "$1" "$2")" -gt "${3:-0}" ]; do
        [ "$SECONDS" -lt "$end" ] || { echo "$1 never said: $2" >&2 && return 1; }
        sleep 0.05
    done
}
# Without a word of the shell's about it.
stop() { # NAME SIGNAL
    local pid=${processes[$1]}
    unset "processes[$1]"
    kill "-$2" "$pid"
    wait "$pid" 2>/dev/null || true
}
call() { timeout 90 "$SIDEWIRE" call "$far" "$@" --timeout 60 2>&1 || true; }
shows() { # WHAT EXPECTED GOT
    [[ $3 == *"$2"* ]] || { printf 'expected %s: %s\nbut got: %s\n' "$1" "$2" "$3" >&2 && return 1; }
    printf '%-58s %s\n' "$1" "$3"
}
until_it_shows() { # WHAT EXPECTED CALL...
    local what=$1 expected=$2 end=$((SECONDS + 60)) got
    shift 2
    until got=$(call "$@") && [[ $got == *"$expected"* ]]; do
        [ "$SECONDS" -lt "$end" ] || break
        sleep 0.1
    done
    shows "$what" "$expected" "$got"
}
broker() { # PORT
    start broker "Server is ready" nats-server -a 127.0.0.1 -p "$1"
}

broker -1
port=$(grep -oE 'client connections on 127.0.0.1:[0-9]+' "$folder/broker.log" | grep -oE '[0-9]+$')
nats=(--nats "nats://127.0.0.1:$port" --app store)

# The machine of the server, and that of its clients.
start server listening "$SIDEWIRE" serve "$near"
start serve serving "$SIDEWIRE_BRIDGE" serve "$near" "${nats[@]}" --types 1-8 --events 1
start connect listening "$SIDEWIRE_BRIDGE" connect "$far" "${nats[@]}"

shows "a call" "hello, this is server!" "$(call 1)"
shows "another" "hello, this is server!" "$(call 3 'from the other machine')"
shows "what the server keeps" "from the other machine" "$(call 1)"
shows "a reply in parts" "1 2 3" "$(call 7 3 --stream | tr '\n' ' ')"
"$SIDEWIRE" watch "$far" 1 >"$folder/watch.log" 2>&1 &
processes[watch]=$!
# Who listens does not say when it has begun to.
for _ in $(seq 100); do
    call 2 news >/dev/null
    [ "$(said watch news)" -eq 0 ] || break
    sleep 0.1
done
shows "an event" news "$(grep -m 1 -F news "$folder/watch.log")"
stop watch TERM

refused=$(timeout 60 "$SIDEWIRE_BRIDGE" serve "$near" "${nats[@]}" --types 1-8 2>&1 || true)
shows "a second one that serves it" "an app is served by one" "$refused"

call 6 60000 >"$folder/call.log" &
waiting=$!
end=$((SECONDS + 60))
until [[ $("$SIDEWIRE" stats "$near" --json) == *'"6":1'* ]]; do
    [ "$SECONDS" -lt "$end" ] || { echo "the server never had the call" >&2 && exit 1; }
    sleep 0.05
done
stop server KILL
wait "$waiting"
shows "the server is killed in a call" "it may have been executed" "$(cat "$folder/call.log")"
until_it_shows "and then" "nobody serves this" 1
start server listening "$SIDEWIRE" serve "$near"
until_it_shows "it is started again" "hello, this is server!" 1

stop broker KILL
until_it_shows "the broker is killed" "there is no connection" 1
broker "$port"
until_it_shows "and started again" "hello, this is server!" 1
