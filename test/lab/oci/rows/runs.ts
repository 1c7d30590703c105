/*
 * podman's command lines that start containers of their own. $ROOT is a root file system with busybox, $DIR a directory for
 * files.
 */
import type { Row } from "../table.ts";

const ONCE = "podman run --rm --network none --rootfs $ROOT";
const ONLY = "podman run --rm --network none";

const PROGRAMS: Row[] = [
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

/** What they have and may. */
const SETTINGS: Row[] = [
	{
		line: `${ONLY} --init --rootfs $ROOT sh -c 'cat /proc/1/comm; (sleep 0.1 &); sleep 1; ps -o comm | grep -c sleep; kill -TERM $$'`,
	},
	{
		line: `${ONLY} -t --log-driver none --rootfs $ROOT sh -c 'echo $TERM; echo console >/dev/console; test -t 0 && test -t 1 && test -t 2 && echo tty; exit 200'`,
	},
	{
		line: `podman network create n1 >/dev/null; podman network create n2 >/dev/null; podman run --rm --network n1 --network n2 --rootfs $ROOT sh -c 'ip -4 -o addr | grep -c eth; ip route | grep -c default; ip -o link | grep -c eth'; podman network rm n1 n2`,
	},
	{
		line: `echo '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":13}]}' >$DIR/profile; podman run -d --name s --network none --security-opt seccomp=$DIR/profile --rootfs $ROOT sleep 1000 | wc -c; podman exec s sh -c 'mkdir /x; grep Seccomp: /proc/self/status'; podman rm -f -t 0 s | wc -c; ${ONLY} --rootfs $ROOT sh -c 'grep Seccomp: /proc/self/status; mount -t tmpfs x /tmp'`,
	},
	{
		line: "podman run -d --name c --rootfs $ROOT sh -c 'httpd -f -p 8080 -h / & echo page >/page; sleep 1000' | wc -c; podman run --rm --network container:c --rootfs $ROOT sh -c 'ip -o link | grep -c eth0; wget -qO- http://127.0.0.1:8080/page'; podman rm -f -t 0 c | wc -c",
	},
];

/** How they begin and end. */
const ENDS: Row[] = [
	/* A machine that is killed ends its container as SIGKILL does. runc has no such process. */
	{
		line: "podman run -d --name m --network none --rootfs $ROOT sleep 1000 | wc -c; kill -9 $(pgrep -f '[s]upervise'); podman wait m; podman ps -a --format '{{.Status}}' | cut -c1-12; podman rm m; podman ps -aq | wc -l",
		prints: "65\n137\nExited (137)\nm\n0\n",
	},
];

export const RUNS: readonly Row[] = [...PROGRAMS, ...SETTINGS, ...ENDS];
