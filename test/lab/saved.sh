# In the lab: a container that counts is saved, and goes on as two others. Prints what warm.test.ts expects.
#     sh saved.sh NODE REPOSITORY IMAGE
set -u
node=$1 home=$2 image=$3
export TSVMM_STATE=/run/saved-test/state
mkdir -p /run/saved-test/shared
cd /run/saved-test
tsvmm() { "$node" "$home/dist/tsvmm.js" "$@"; }
# What a container has printed; how much of it are numbers that follow each other, from the first one on.
log() { sed 's/{"log":"\([0-9]*\)\\n.*/\1/' "$TSVMM_STATE/containers/$1/log.json"; }
whole() { log "$1" | awk 'NR == 1 { first = $1 } $1 != first + NR - 1 { exit 1 }' && echo whole; }
counter='trap "exit 5" TERM; exec 9>>/shared/log; echo kept >/kept; i=0
while :; do i=$((i+1)); echo $i; echo $i >&9; echo $i >/count; sleep 0.3; done'
look='cat /proc/1/comm /kept; wget -qO- http://127.0.0.1:8000/kept; head -c 32 /dev/urandom | sha256sum'

one=$(tsvmm run -d --name one -v /run/saved-test/shared:/shared "$image" sh -c "$counter")
tsvmm exec -d one httpd -f -p 8000 -h /
tsvmm snapshot create one saved
before=$(log "$one" | wc -l)
two=$(tsvmm snapshot restore saved --name two)
three=$(tsvmm snapshot restore saved --name three)
for name in two three; do tsvmm exec "$name" sh -c "$look" >$name; done
echo "two: $(whole "$two") $(head -n3 two | xargs)"
echo "three: $(whole "$three") $(head -n3 three | xargs)"
echo "first numbers: $(for id in "$two" "$three"; do log "$id" | head -n1; done | uniq | wc -l)"
echo "random numbers: $(tail -qn1 two three | sort -u | wc -l)"
echo "one: $(whole "$one"), more than before $(($(log "$one" | wc -l) > before))"
# Once more, based on the first one; the container ends with it, and goes on from what both are together.
tsvmm snapshot create one later --base saved --stop
echo "later: $(tsvmm inspect -f '{{.State.Status}} {{.State.ExitCode}}' one), less memory $(($(stat -c %b later/memory) * 2 < $(stat -c %b saved/memory)))"
tsvmm snapshot merge later both
tsvmm snapshot rm later saved
four=$(tsvmm snapshot restore both --name four)
tsvmm exec four sh -c "$look" >four
echo "four: $(whole "$four") $(head -n3 four | xargs), goes on $((1 < $(log "$four" | head -n1) && $(log "$four" | head -n1) <= $(log "$one" | tail -n1) + 1))"
tsvmm stop -t 20 two three four >/dev/null
echo "stopped: $(cat "$TSVMM_STATE"/containers/*/state.json | grep -o '"exitCode": 5' | wc -l)"
tsvmm rm one two three four >/dev/null
tsvmm snapshot rm both
echo "left: $(ls "$TSVMM_STATE/containers" | wc -l) $(ls -d saved later both 2>/dev/null | wc -l)"
