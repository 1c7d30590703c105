# In the lab: a container whose memory comes back to the host by itself. Prints how many MiB the process of its machine has
# in RAM: before, after the container has filled a file in its memory, and after it has removed it. Then it prints what
# `tsvmm stats` said of the guest each time, as a line of JSON.
#     sh balloon.sh NODE REPOSITORY IMAGE
set -eu
node=$1 home=$2 image=$3
export TSVMM_STATE=/run/balloon-state
tsvmm() { "$node" "$home/dist/tsvmm.js" "$@"; }
tsvmm run -q -d --name fat --net none --tmpfs /big "$image" sleep 100000 >/dev/null
pid=$(tsvmm inspect -f '{{.State.Pid}}' fat)
resident() { awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$pid/status"; }
stats() { tsvmm stats --no-stream --format json fat; }
before=$(resident)
said=$(stats)
tsvmm exec fat dd if=/dev/zero of=/big/file bs=1M count=200 2>/dev/null
used=$(resident)
said="$said
$(stats)"
tsvmm exec fat rm /big/file
for i in $(seq 600); do
	[ "$(resident)" -ge $((before + 60)) ] || break
	sleep 0.1
done
echo "$before $used $(resident)"
echo "$said"
stats
tsvmm rm -f fat >/dev/null
