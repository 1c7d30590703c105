/*
 * podman's command lines that are played with runc and with tsvmm-oci, in order. $ROOT is a root file system with busybox,
 * $DIR a directory for volumes; the container "c" is there from one line to another.
 */

export interface Row {
	line: string;
	/** Standard output that each runtime may have in its own way, when it fits. */
	stdout?: RegExp;
	/** Standard error that each runtime may have in its own way, when it fits. */
	stderr?: RegExp;
	/** What tsvmm-oci prints, where runc is no measure. */
	prints?: string;
}

const ONCE = "podman run --rm --network none --rootfs $ROOT";

/** Each starts a container of its own. */
const RUNS: Row[] = [
	{ line: `${ONCE} sh -c 'echo out; echo err >&2; exit 3'` },
	{ line: `${ONCE} nosuch` },
	{ line: `${ONCE} /etc` },
	{ line: `${ONCE} /no/such` },
	{ line: `podman run --rm -i --network none --rootfs $ROOT cat <$DIR/input | md5sum` },
	{ line: `podman run --rm -t --network none --rootfs $ROOT sh -c 'tty; echo done'` },
	{
		line: `podman run --rm --network none --user 1000:1000 --group-add 7 -w /tmp -e A=b --hostname box --read-only --tmpfs /scratch:size=64k --cap-drop all --cap-add net_raw --ulimit nofile=100:200 --security-opt no-new-privileges --rootfs $ROOT sh -c 'id; pwd; echo $A; hostname; touch /x; touch /scratch/y && ls /scratch; grep -E "Cap(Prm|Eff|Bnd|Amb)|NoNew" /proc/self/status; ulimit -Sn; ulimit -Hn; umask; ls -a /'`,
	},
	{
		line: `podman run --rm --network none -v $DIR/ro:/ro:ro -v $DIR/rw:/data/rw -v $DIR/input:/etc/one --mount type=tmpfs,dst=/mem --rootfs $ROOT sh -c 'ls /ro /data/rw; touch /ro/x; echo new >/data/rw/new; wc -c </etc/one; touch /mem/x && echo tmpfs'; cat $DIR/rw/new; rm $DIR/rw/new`,
	},
	{
		line: `podman run --rm --pids-limit 50 --memory 256m --network none --rootfs $ROOT sh -c 'kill -9 $$; echo still; exec sleep 0'`,
	},
	{
		line: `podman run --rm --network none --rootfs $ROOT sh -c 'id; cat /proc/1/comm; ls /dev | grep -v core; readlink /dev/fd /dev/stdin; ls /dev/pts; cat /proc/keys | wc -c; echo x >/proc/sys/kernel/hostname'`,
	},
	{
		line: `podman run --rm --rootfs $ROOT sh -c 'ip -4 addr show eth0 | grep -c 10.88; ip route | grep -c default; hostname -i >/dev/null; grep -c nameserver /etc/resolv.conf'`,
	},
];

/** On one container. */
const LIFE: Row[] = [
	{
		line: `podman run -d --name c --rootfs $ROOT sh -c 'trap "echo bye; exit 5" TERM; echo up; while :; do sleep 1000 & wait; done'`,
		stdout: /^[0-9a-f]{64}\n$/,
	},
	{ line: "podman ps --format '{{.Names}} {{.Image}}'" },
	{ line: "podman exec c sh -c 'echo in; echo err >&2; exit 9'" },
	{ line: "podman exec c nosuch" },
	{ line: "podman exec c /etc" },
	{ line: "podman exec -w /nope c true" },
	{ line: "podman exec -u 1000:1000 -w /tmp -e A=b c sh -c 'id; pwd; echo $A'" },
	{ line: "podman exec -t c sh -c 'tty && echo done'" },
	{ line: "podman exec -i c sh -c 'cat; exit 4' <$DIR/input | md5sum" },
	{ line: "podman exec -d c touch /detached; sleep 4; podman exec c ls /detached" },
	{
		line: "podman cp $DIR/input c:/copied; podman exec c wc -c /copied; podman cp c:/copied $DIR/back; cmp $DIR/input $DIR/back",
	},
	{ line: "podman inspect -f '{{.State.Status}} {{.State.Running}} {{.State.ExitCode}} {{.State.OciVersion}}' c" },
	{ line: "podman top c -eo comm | sort | uniq" },
	{ line: "podman pause c; podman inspect -f '{{.State.Status}}' c; podman exec c true; podman unpause c" },
	{ line: "ping -c 1 -W 5 $(podman inspect -f '{{.NetworkSettings.IPAddress}}' c) | grep -c '1 received'" },
	{ line: "podman logs c" },
	{ line: "podman kill -s WINCH c; podman inspect -f '{{.State.Status}}' c" },
	{ line: "podman stop -t 30 c; podman logs c; podman ps -a --format '{{.Names}} {{.ExitCode}}'" },
	{ line: "podman exec c true" },
	{ line: "podman start c; podman exec c ls /detached" },
	{ line: "podman kill c; podman wait c" },
	{ line: "podman rm c; podman ps -aq | wc -l" },
];

/**
 * Two containers of one pod, which is one machine. podman 4.3 forbids all devices to a pod's control group in version 2 of
 * control groups, so that runc cannot start a container there.
 */
const POD: Row[] = [
	{
		line: "tar -C $ROOT -cf - . | podman import - infra:1 >/dev/null 2>&1; podman pod create --name p --infra-image localhost/infra:1 --infra-command '/bin/sleep 1000' | wc -c",
	},
	{
		line: `podman run -d --pod p --name web --rootfs $ROOT sh -c 'echo page >/page; httpd -f -p 8080 -h /' | wc -c`,
		prints: "65\n",
	},
	{
		line: `podman run --rm --pod p --rootfs $ROOT sh -c 'wget -qO- http://127.0.0.1:8080/page; cat /proc/1/comm'`,
		prints: "page\ncat\n",
	},
	{ line: "podman pod ps --format '{{.Name}} {{.Status}} {{.NumberOfContainers}}'", prints: "p Running 2\n" },
	{ line: "podman pod rm -f -t 0 p | wc -c; podman ps -aq | wc -l; podman rmi -f infra:1 >/dev/null" },
];

export const ROWS: readonly Row[] = [...RUNS, ...LIFE, ...POD];
