/*
 * podman's command lines on one container, in order. $ROOT is a root file system with busybox, $DIR a directory for files.
 */
import type { Row } from "../table.ts";

/** What it has written, and where it is reached. */
const RUNNING: Row[] = [
	{
		line: `podman run -d --name c --health-cmd 'test -e /ok' --health-interval disable -v data:/data --rootfs $ROOT sh -c 'trap "echo bye; exit 5" TERM; echo up; echo err >&2; while :; do sleep 1000 & wait; done'`,
		stdout: /^[0-9a-f]{64}\n$/,
	},
	{ line: "podman ps --format '{{.Names}} {{.Image}}'" },
	{ line: "podman exec c sh -c 'echo in; echo err >&2; exit 9'" },
	{ line: "podman exec c nosuch" },
	{ line: "podman exec c /etc" },
	{ line: "podman exec -w /nope c true" },
	{ line: "podman exec -u 1000:1000 -w /tmp -e A=b c sh -c 'id; pwd; echo $A'" },
	{
		line: "podman exec -e A=1 --env-file $DIR/env --user mary c sh -c 'id; echo $A $ONE $TWO $HOME; umask; grep CapEff /proc/self/status'",
	},
	{ line: "podman exec --privileged c grep Cap /proc/self/status" },
	{ line: "podman exec c sh -c 'kill -TERM $$'" },
	{ line: "podman exec c sh -c 'kill -9 $$'" },
	{ line: "podman exec -i c sh -c 'cat; exit 4' <$DIR/input | md5sum" },
	{ line: "podman exec -d c touch /detached; sleep 4; podman exec c ls /detached" },
	{
		line: `script -qec "stty rows 33 cols 77; podman exec -it c sh -c 'stty size; tty; test -t 2; echo \\$?; exit 6'" /dev/null </dev/null | tr -d '^@D\\b'`,
	},
	{
		line: `printf 'typed\\n' | script -qec "podman exec -it c sh -c 'read a; echo got \\$a; exit 7'" /dev/null | tr -d '^@'`,
	},
	{ line: "podman healthcheck run c; echo $?; podman exec c touch /ok; podman healthcheck run c; echo $?" },
	{
		line: "podman inspect -f '{{.State.Status}} {{.State.Running}} {{.State.ExitCode}} {{.State.OciVersion}} {{.State.Healthcheck.Status}} {{.RestartCount}}' c",
	},
	{ line: "podman top c -eo comm | sort | uniq; podman top c user pid | head -n 1" },
	{ line: "podman top c -eo ppid,user,args | grep -v ps" },
	{ line: "podman stats --no-stream --format '{{.Name}}' c" },
	{ line: "ping -c 1 -W 5 $(podman inspect -f '{{.NetworkSettings.IPAddress}}' c) | grep -c '1 received'" },
];

/** Its files and its output. */
const FILES: Row[] = [
	{
		line: "podman cp $DIR/input c:/copied; podman exec c wc -c /copied; podman cp c:/copied $DIR/back; cmp $DIR/input $DIR/back",
	},
	{
		line: "podman cp $DIR/tree c:/tree; podman exec c sh -c 'cd /tree && find . | sort && cat link sub/two; echo new >/changed; rm /bin/yes'; podman cp c:/tree/sub $DIR/sub; ls -R $DIR/sub; rm -r $DIR/sub",
	},
	{ line: "podman cp c:/changed - | tar -t; podman cp c:/no/such $DIR/x" },
	{ line: "podman export c | tar -t | grep -E '^(changed|tree/.*|bin/yes|bin/busybox)$' | sort" },
	{ line: "podman logs c" },
	{
		line: "podman logs --tail 1 c; podman logs -t c 2>&1 | sed -E 's/^[0-9TZ:.+-]+ /TIME /'; podman logs --names c 2>/dev/null",
	},
];

/** Its ends. */
const ENDS: Row[] = [
	{ line: "podman pause c; podman inspect -f '{{.State.Status}}' c; podman exec c true; podman unpause c" },
	{ line: "podman pause c; podman stop -t 1 c; podman unpause c", stderr: /running or paused, refusing to clean up/ },
	{ line: "podman kill -s WINCH c; podman kill -s 28 c; podman inspect -f '{{.State.Status}}' c" },
	{ line: "podman restart -t 60 c; podman logs c; podman inspect -f '{{.State.Status}} {{.RestartCount}}' c" },
	{ line: "podman exec c ls /detached; podman rm c", stderr: /cannot remove container [0-9a-f]{64} as it is running/ },
	{
		line: "podman stop -t 60 c; podman logs -f c 2>/dev/null; podman ps -a --format '{{.Names}} {{.ExitCode}}'",
	},
	{ line: "podman exec c true" },
	{ line: "podman kill c; podman stop c; podman pause c", stderr: /can only kill running containers.*\n.*can't pause/ },
	{
		line: "podman start c; until [ $(podman logs c 2>/dev/null | grep -c up) = 3 ]; do sleep 1; done; kill -9 $(podman inspect -f '{{.State.Pid}}' c); podman wait c; podman ps -a --format '{{.Status}}' | cut -c1-12",
	},
	{ line: "podman rm c; podman volume rm data; podman ps -aq | wc -l" },
];

export const LIFE: readonly Row[] = [...RUNNING, ...FILES, ...ENDS];
