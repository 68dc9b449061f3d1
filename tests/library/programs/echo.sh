#!/bin/sh
# A server on standard input and output that answers each request with its payload: the v1 layout by printf, dd and od.
# A request of type 2 ends it with status 7, one of type 3 has it say what is no frame. $1: a file that is made when it has heard goodbye.

take() { dd bs=1 count="$1" 2>/dev/null | od -An -v -tu1; }
bytes() { for byte; do printf "\\$(printf '%03o' "$byte")"; done; }
u32() { bytes $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)); }

# Our hello is the answer to theirs.
set -- "${1:-/dev/null}" $(take 48)
end=$1
shift
[ "$1 $2 $3 $4" = '209 83 87 209' ] || { echo "this is no hello: $*" >&2; exit 2; }
take $(($5 + 256 * $6 - 48)) >/dev/null
bytes 209 83 87 209 72 0 1 1
u32 0; u32 0; u32 65536; u32 16; u32 65536; u32 0
printf 'sixteen random b'
u32 0
bytes 1 0 0 0
printf 'new in each run '

last=0
while set -- $(take 16) && [ $# = 16 ]; do
    length=$(($1 + 256 * $2 + 65536 * $3)) kind=$5
    id=$((${9} + 256 * ${10} + 65536 * ${11} + 16777216 * ${12}))
    type="$7 $8"
    payload=$(take $length)
    case $kind in
        1) # a request
            last=$id
            [ "$type" != '2 0' ] || { echo 'type 2 is too much' >&2; exit 7; }
            [ "$type" != '3 0' ] || { echo 'now I babble' >&2; printf 'whatever you read into it, this is no frame'; }
            u32 $length; bytes 2 0 $type; u32 $id; u32 0
            bytes $payload
            ;;
        9) u32 0; bytes 10 0 0 0; u32 $id; u32 0 ;; # a ping
        12) # goodbye
            : >"$end" # First: there are 3 s for all of it.
            u32 0; bytes 12 0 0 0; u32 $last; u32 0
            exit 0
            ;;
    esac
done
