# In the lab: containers in machines of a template that the first of them has made. Prints what warm.test.ts expects.
#     sh warm.sh NODE REPOSITORY CACHE IMAGE
set -u
node=$1 home=$2 image=$4
unset TSVMM_WARM
# A cache of its own in the lab's RAM, with all but the templates of the host's.
export TSVMM_CACHE=/run/warm-test/cache
templates=$TSVMM_CACHE/templates
mkdir -p "$TSVMM_CACHE" /run/warm-test/shared
cd /run/warm-test
for part in "$3"/*; do [ "${part##*/}" = templates ] || ln -s "$part" "$TSVMM_CACHE"; done
tsvmm() { "$node" "$home/dist/tsvmm.js" "$@"; }
makers() { pgrep -fc 'template prepare [{]'; }
there() { ls "$templates" 2>/dev/null | wc -l; }
# What the guest's machine was: one that boots has a phase "kernel", one of a template has "restore".
phase() { grep -o ' kernel\| restore' "$1" | sort -u | tr -d ' '; }
# What the container prints: two random numbers, its name, how often it has run; the host's file once more.
script='cat /proc/sys/kernel/random/uuid; head -c 32 /dev/urandom | sha256sum; hostname
echo again >>/log; wc -l </log; cat /shared/in; echo "$(hostname)" >>/shared/out; exit 3'
echo from the host >shared/in

tsvmm run --rm --cold --timings --network none "$image" true 2>times
echo "cold: $? $(phase times), makers $(makers), templates $(there)"

run() { tsvmm run --timings -v /run/warm-test/shared:/shared "$@" "$image" sh -c "$script"; }
run --name one >one 2>times
echo "first: $? $(phase times), lines $(wc -l <one)"
for i in $(seq 120); do [ "$(makers)" = 0 ] && [ "$(there)" = 1 ] && break; sleep 0.5; done
echo "made: templates $(ls -A "$templates" | grep -vc '^\.lock$')"
run --rm -t --network none >two 2>times
echo "second: $? $(phase times), lines $(wc -l <two)"
tsvmm start -a one >again
echo "started again: $? runs $(sed -n 4p again) $(sed -n 5p again)"
echo "different: $(head -qn3 one two again | tr -d '\r' | sort -u | wc -l), names on the host $(sort -u shared/out | wc -l)"
[ "$(sed -n 3p one)" = "$(sed -n 3p again)" ] && echo "the name stays"

tsvmm run -d --name server -p 18080:80 -v /run/warm-test/shared:/www:ro "$image" httpd -f -h /www >/dev/null
echo "uses: $(grep -l "$templates/" /proc/[0-9]*/maps 2>/dev/null | wc -l)"
echo "served: $(wget -qO- http://127.0.0.1:18080/in)"
tsvmm rm -f server >/dev/null

# One that cannot be used is removed, and the container has a machine that boots. It is not made again at once.
echo x >>"$(ls -d "$templates"/*)/state"
tsvmm run --rm --timings --network none "$image" sh -c 'exit 4' 2>times
echo "damaged: $? $(phase times) $(grep -c '^tsvmm: Cannot use template [0-9a-f]*, which is removed: .*state is not what was written$' times)"
for i in $(seq 10); do [ "$(makers)" = 0 ] || echo "made again"; sleep 0.2; done
echo "left: $(cat "$templates"/*.attempt | wc -l)"
tsvmm template make
echo "by hand: $(ls "$templates" | grep -c '^[0-9a-f]*$') $(ls "$templates" | wc -l)"
tsvmm rm one >/dev/null

# Two containers take the machines of a pool at the same time. They go on when the supervisor of the pool is killed, and no other machine does.
tsvmm pool up -n 2 >/dev/null
echo "pool: $(tsvmm pool ls --format '{{.Ready}} of {{.Wanted}}')"
script='hostname; head -c 32 /dev/urandom | sha256sum; cat /shared/in; ip -4 addr show eth0 | grep -c inet; exec sleep 1000'
for name in two three; do
	tsvmm run -d --name $name -v /run/warm-test/shared:/shared:ro "$image" sh -c "$script" >/dev/null &
	runs="${runs-} $!"
done
wait $runs
waiting() { pgrep -fc 'supervise --pool'; }
kill -9 $(pgrep -f 'pool supervise')
for i in $(seq 100); do [ "$(waiting)" = 2 ] && break; sleep 0.2; done
echo "taken: $(waiting), pools $(tsvmm pool ls --format '{{.Key}}' | wc -l)"
for name in two three; do tsvmm logs $name; done >logs
echo "lines $(wc -l <logs), different $(sort -u logs | wc -l)"
tsvmm rm -f two three >/dev/null
echo "left: $(waiting)"
