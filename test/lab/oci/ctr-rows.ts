/*
 * ctr's command lines that are played with containerd's own shim for runc and with ours, in order. $DIR is a directory for
 * what they need; the container "t" is there from one line to another. `runs NAME` waits until a task runs, `ended NAME`
 * until it has ended. `tty LINE` runs a line with a terminal of 100 columns and 30 rows, and `tty LINE OTHER` gives that
 * another size when the other line has ended.
 */

export interface Row {
	line: string;
	/** Standard error that each may have in its own way, when it fits. */
	stderr?: RegExp;
}

const HELD = "must be stopped before deletion";

/** Each starts a container of its own. */
const RUNS: Row[] = [
	{ line: "ctr run --rm IMAGE a sh -c 'echo out; echo err >&2; exit 3'" },
	{
		line: `mkdir -p $DIR/ro $DIR/rw; echo file >$DIR/ro/file; ctr run --rm --cwd /tmp --env A=b --read-only --mount type=bind,src=$DIR/ro,dst=/ro,options=rbind:ro --mount type=bind,src=$DIR/rw,dst=/rw,options=rbind:rw --cap-add CAP_NET_ADMIN --cap-drop CAP_CHOWN --memory-limit 33554432 IMAGE b sh -c 'pwd; echo $A; id; cat /proc/1/comm /ro/file; touch /ro/x; touch /x; echo new >/rw/new; grep -E "Cap|NoNew" /proc/self/status; head -c 40000000 /dev/zero | tail | wc -c'; cat $DIR/rw/new`,
	},
	/* ctr of containerd 1.6 tells nobody of an end that comes before the task is created. */
	{ line: "(runs c; head -c 100000 /usr/bin/busybox) | ctr run --rm IMAGE c md5sum" },
	{
		line: `tty "ctr run --rm -t --privileged IMAGE d sh -c 'until stty size 2>/dev/null | grep 30.100; do sleep 1; done; tty; grep CapEff /proc/self/status; exit 6'"`,
	},
	{
		line: "ip netns add ctr-test; ctr run --rm --with-ns network:/run/netns/ctr-test IMAGE e sh -c 'hostname; ip -o link | wc -l'; ip netns exec ctr-test ip -o link | wc -l; ip netns del ctr-test",
	},
	{ line: "(runs i; ctr task kill -s KILL i) & ctr run --rm --net-host IMAGE i sh -c 'hostname; exec sleep 1000'" },
	{ line: "ctr run --rm IMAGE f nosuch" },
	{ line: "ctr run --rm IMAGE g /etc" },
	{ line: "ctr run --rm --read-only IMAGE h /no/such; ctr container ls -q; ctr task ls -q" },
];

/** On one container. */
const LIFE: Row[] = [
	{
		line: `ctr run -d --pid-file $DIR/pid IMAGE t sh -c 'trap "echo bye; exit 5" TERM; echo up; while :; do sleep 1; done'; [ $(cat $DIR/pid) = $(ctr task ls | awk '$1=="t"{print $2}') ] && ls /proc/$(cat $DIR/pid)/root/bin/busybox | wc -l`,
	},
	{ line: "ctr task ls | sed 's/[0-9][0-9]*/N/; s/  *$//; s/  */ /g'" },
	{ line: `ctr run -d IMAGE t sleep 1; ctr task start t; ctr container info t | grep -c '"ID": "t"'` },
	{ line: "ctr task exec --exec-id 1 t sh -c 'echo in; echo err >&2; exit 9'" },
	{ line: "(sleep 4; echo piped) | ctr task exec --exec-id 2 t cat" },
	{ line: "ctr task exec --exec-id 3 --user 1000:1000 --cwd /tmp t sh -c 'pwd; id; kill -9 $$'" },
	{
		/* The terminal of runc has no size at first. What `script` makes of the end of its input comes at any place. */
		line: `(tty "ctr task exec -t --exec-id 4 t sh -c 'until stty size 2>/dev/null | grep 30.100; do sleep 1; done; tty | cut -c1-9; echo err >&2; touch /ready; until stty size | grep 33.77; do sleep 1; done; exit 4'" "ctr task exec --exec-id 5 t sh -c 'until [ -e /ready ]; do sleep 1; done'"; echo "= $?") | tr -d '^@'`,
	},
	{
		line: "ctr task exec -d --exec-id 6 t sh -c 'touch /detached; sleep 1000'; until ctr task exec --exec-id 7 t ls /detached 2>/dev/null; do sleep 1; done; ctr task ps t | grep ExecID:6 | sed 's/^[0-9]* *//'; ctr task kill --exec-id 6 -s KILL t; while ctr task ps t | grep -q ExecID; do sleep 1; done; ctr task exec --exec-id 6 t true; ctr task rm --exec-id 6 t",
	},
	{ line: "ctr task exec --exec-id e t nosuch" },
	{ line: "ctr task exec --exec-id e t /etc" },
	{ line: "ctr task exec --exec-id e --cwd /nope t pwd" },
	{ line: "ctr task kill --exec-id none t" },
	{
		line: "ctr task pause t; ctr task ls | grep -o PAUSED; ctr task exec --exec-id p t true; ctr task pause t; ctr task resume t; ctr task ls | grep -o RUNNING; ctr task resume t",
	},
	{ line: "ctr task metrics t | grep -E '^[a-z]' | sed 's/ .*//'" },
	{
		line: `ctr task metrics --format json t | grep -E '"(usage|current|usage_usec|anon)": [1-9][0-9]*,?$|"(limit|usage_limit)": 18446744073709551615' | wc -l`,
	},
	{ line: "ctr task checkpoint t", stderr: /^ctr: .*(criu|checkpoints are not implemented)/ },
	{ line: "ctr task rm t", stderr: new RegExp(`${HELD}: running: failed precondition\n$`) },
	{
		line: "ctr task attach t >$DIR/attached & until grep -q up $DIR/attached; do sleep 1; done; ctr task kill -s WINCH t; ctr task kill t; wait $!; echo $?; cat $DIR/attached",
	},
	{ line: "ctr task kill t; ctr task exec --exec-id g t true; ctr task metrics t; ctr task rm t" },
];

/** Once more on it, and what containerd hears. */
const EVENTS: Row[] = [
	{
		line: "ctr events >$DIR/events 2>&1 & echo $! >$DIR/events.pid; sleep 1; ctr task start -d t >/dev/null; ctr task exec --exec-id e t true; ctr task pause t; ctr task resume t; ctr task kill -a -s KILL t; ended t; ctr task kill t; ctr task exec --exec-id g t true; ctr task pause t; ctr task resume t; ctr task rm t",
	},
	{
		line: `sleep 1; kill $(cat $DIR/events.pid); grep -o '/tasks/.*' $DIR/events | sed 's/"pid":[0-9]*/N/; s/"exited_at":"[^"]*"/T/; s/"rootfs".*/R/'`,
	},
	{
		/* nerdctl has the output logged so. */
		line: `ctr container rm t; printf '#!/bin/sh\\nexec 5>&-\\ncat <&3 >"$2"\\n' >$DIR/logger; chmod +x $DIR/logger; ctr run -d --log-uri "binary://$DIR/logger?--file=$DIR/log" IMAGE t sh -c 'echo logged; sleep 1000'; until grep -s logged $DIR/log; do sleep 1; done; ctr task rm -f t; ctr container rm t; ctr container ls -q; ctr task ls -q`,
	},
];

export const ROWS: readonly Row[] = [...RUNS, ...LIFE, ...EVENTS];
