/*
 * podman's command lines that start containers of their own. $ROOT is a root file system with busybox, $DIR a directory for
 * files.
 */
import type { Row } from "../table.ts";

const ONCE = "podman run --rm --network none --rootfs $ROOT";

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
		line: `podman run --rm --dns 9.9.9.9 --dns-search example.org --rootfs $ROOT sh -c 'ip -4 addr show eth0 | grep -c 10.88; ip route | grep -c default; hostname -i >/dev/null; cat /etc/resolv.conf'`,
	},
];

/** How they begin and end. */
const ENDS: Row[] = [
	{
		line: `podman run -d --name r --restart on-failure:1 --network none --rootfs $ROOT sh -c 'echo try; exit 3' | wc -c; until [ "$(podman inspect -f '{{.RestartCount}} {{.State.Status}}' r)" = "1 exited" ]; do sleep 1; done; podman inspect -f '{{.State.ExitCode}}' r; podman logs r; podman rm r`,
	},
	{
		line: `podman run -d --rm --name once --network none --stop-signal USR1 --rootfs $ROOT sh -c 'trap "exit 4" USR1; echo up; while :; do sleep 0.2; done' | wc -c; until podman logs once | grep -q up; do sleep 1; done; podman stop -t 60 once; podman wait once 2>/dev/null; podman ps -aq | wc -l`,
		stdout: /^65\n(?:up\n)?once\n(?:4\n)?0\n$/,
	},
	{
		line: `podman create --name k -i --network none --cidfile $DIR/cid --pidfile $DIR/pid --rootfs $ROOT sh -c 'read a; echo got $a; exit 8' | wc -c; wc -c <$DIR/cid; echo words | podman start -ai k; echo $?; podman logs k; podman start -a k </dev/null; echo $?; test -s $DIR/pid && echo pid; podman rm k; rm -f $DIR/cid`,
	},
	{
		line: `(until podman logs d 2>/dev/null | grep -q up; do sleep 1; done; printf '\\020'; sleep 1; printf '\\021') | script -qec "podman run -it --name d --network none --rootfs $ROOT sh -c 'echo up; read line; echo got $line; exit 9'" /dev/null | grep -c up; podman ps --format '{{.Names}}'; printf 'hello\n' | script -qec "podman attach d" /dev/null | grep -c got; podman wait d; podman rm d`,
	},
	/* A machine that is killed ends its container as SIGKILL does. runc has no such process. */
	{
		line: "podman run -d --name m --network none --rootfs $ROOT sleep 1000 | wc -c; kill -9 $(pgrep -f '[s]upervise'); podman wait m; podman ps -a --format '{{.Status}}' | cut -c1-12; podman rm m; podman ps -aq | wc -l",
		prints: "65\n137\nExited (137)\nm\n0\n",
	},
];

export const RUNS: readonly Row[] = [...PROGRAMS, ...ENDS];
