# In the lab: containers of the OCI runtime in machines that are made of a template. Prints what template.test.ts expects.
#     sh template.sh NODE REPOSITORY CACHE
set -u
node=$1 home=$2
unset TSVMM_WARM
# A cache of its own in the lab's RAM, with all but the templates of the host's.
export TSVMM_CACHE=/run/template-test/cache
mkdir -p "$TSVMM_CACHE"
for part in "$3"/*; do [ "${part##*/}" = templates ] || ln -s "$part" "$TSVMM_CACHE"; done
tsvmm() { "$node" "$home/dist/tsvmm.js" "$@"; }
oci() { "$node" "$home/dist/tsvmm-oci.js" --root /run/template-test/state "$@"; }
mkdir -p /run/template-test/bundle/rootfs/bin
cd /run/template-test/bundle
cp /usr/bin/busybox rootfs/bin
for name in sh cat date sleep head sha256sum; do ln -s busybox rootfs/bin/$name; done
oci spec
# What the container prints: two random numbers by the kernel, of which it keeps one, one by /dev/urandom, and its time.
script='cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/boot_id; head -c 32 /dev/urandom | sha256sum; date +%s; sleep 2; exit 3'
sed -i "s#\"terminal\": true#\"terminal\": false#; s#\"sh\"#\"sh\", \"-c\", \"$script\"#" config.json

keys() { tsvmm template ls --format '{{.Key}}'; }
echo "before $(keys | wc -l)"
tsvmm template make & killed=$!
# One that is killed while it is written leaves nothing that another one does not remove.
until [ -n "$(ls -A "$TSVMM_CACHE"/templates 2>/dev/null | grep '^\..*-')" ]; do sleep 0.05; done
kill -9 $killed
tsvmm template make
tsvmm template make
echo "made $(tsvmm template ls | grep -c '512MiB') $(ls -A "$TSVMM_CACHE"/templates | wc -l)"

oci run one >one & first=$!
oci run two >two & second=$!
used=0
for i in $(seq 100); do
	[ "$(grep -l /templates/ /proc/[0-9]*/maps 2>/dev/null | wc -l)" -ge 2 ] && used=2 && break
	sleep 0.2
done
wait $first; echo "status $?"
wait $second; echo "status $?"
echo "used $used"
echo "lines $(cat one two | wc -l)"
echo "different $(cat one two | grep -v '^[0-9]*$' | sort -u | wc -l)"
now=$(date +%s)
for time in $(sed -n 4p one) $(sed -n 4p two); do
	[ $((now - time)) -lt 60 ] && [ $((now - time)) -ge 0 ] && echo "clock right" || echo "clock $time of $now"
done

# One that cannot be used is removed, and the container has a machine that boots.
echo x >>"$(ls -d "$TSVMM_CACHE"/templates/[!.]*)/state"
oci run three >three; echo "status $?"
echo "lines $(wc -l <three)"
echo "after $(keys | wc -l)"
echo "left $(ls /run/template-test/state)"
