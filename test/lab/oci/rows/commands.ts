/*
 * runc's commands on one bundle, in order: also what they refuse. $BUNDLE is a bundle, $DIR a directory for files.
 */
import type { Row } from "../table.ts";

const CREATE = "runc create --bundle $BUNDLE x </dev/null >$DIR/out 2>&1";
const STOPPED = "until runc state x | grep -q stopped; do sleep 0.2; done";
/** Of `runc run`, with another config.json. */
const edited = (edit: string) =>
	`mkdir $DIR/e; sed -e '${edit}' $BUNDLE/config.json >$DIR/e/config.json; runc run --bundle $DIR/e z; echo $?; rm -r $DIR/e`;

/** Each adds a line to a file: what kind it is, and how its container is then. */
const hook = (kind: string, file: string) =>
	`"${kind}": [{ "path": "/bin/sh", "args": ["sh", "-c", "echo ${kind} $(grep -o status[^,]*) >>${file}"] }]`;
const HOOKS = [
	...["prestart", "createRuntime", "createContainer"].map((kind) => hook(kind, "'$DIR'/hooks")),
	...[hook("startContainer", "/dev/hooks"), hook("poststart", "'$DIR'/hooks"), hook("poststop", "'$DIR'/hooks")],
].join(", ");

export const COMMANDS: readonly Row[] = [
	{
		line: `runc create --bundle $BUNDLE --pid-file $DIR/pid x </dev/null >$DIR/out 2>&1; echo $?; cat $DIR/out; runc state x | grep -E '"(id|status|bundle|rootfs)"'; runc state x | grep -c "\\"pid\\": $(cat $DIR/pid)"`,
	},
	{ line: "runc create --bundle $BUNDLE x; echo $?; runc run --bundle $BUNDLE x; echo $?; runc resume x; echo $?" },
	{ line: "runc start x; echo $?; runc start x; echo $?; runc delete x; echo $?; runc resume x; echo $?" },
	{
		line: "runc exec x sh -c 'echo in; exit 9'; echo $?; runc exec --user 5:6 --cwd /bin --env A=b x sh -c 'id; pwd; echo $A'; echo $?",
	},
	{ line: "runc exec x nosuch; echo $?; runc exec x /etc; echo $?; runc exec --cwd /none x true; echo $?" },
	{
		line: `runc list -q; runc list -f json | grep -o '"status":"[a-z]*"'; for signal in HUP SIGHUP 1 99 NOSUCH; do runc kill x $signal; echo $?; done`,
	},
	{
		line: "runc pause x; echo $?; runc state x | grep status; for command in pause start delete 'exec x true #'; do sh -c \"runc $command x\"; echo $?; done; runc resume x; echo $?; runc state x | grep status",
	},
	{
		line: `runc update --pids-limit 77 x; echo $?; runc exec x cat /sys/fs/cgroup/pids.max; runc events --stats x | grep -o '"type":"stats","id":"x"'`,
	},
	{
		line: `runc kill x KILL; echo $?; ${STOPPED}; runc state x | grep -E 'status|"pid"'; for command in kill 'kill -a' start pause resume ps 'ps -f json' 'update --pids-limit 5'; do sh -c "runc $command x"; echo $?; done; runc exec x true; echo $?`,
	},
	{ line: "runc delete x; echo $?; runc delete x; echo $?; runc delete --force x; echo $?; runc state x; echo $?" },
	{ line: `${CREATE}; runc kill x TERM; echo $?; ${STOPPED}; runc start x; echo $?; runc delete x; echo $?` },
	{ line: `${CREATE}; runc delete x; echo $?; ${CREATE}; runc start x; runc delete -f x; echo $?; runc list -q` },
	{
		/* Hooks of all six kinds, with the state that each is given. runc tells poststart "created", against the specification. */
		line: `rm -f $DIR/hooks; ${edited(`s|"linux": {|"hooks": { ${HOOKS} }, "linux": {|; s|"trap [^"]*"|"cat /dev/hooks"|`)}; sed 's/poststart.*/poststart/' $DIR/hooks; rm $DIR/hooks`,
	},
	{
		line: edited('s|"linux": {|"hooks": { "startContainer": [{ "path": "/bin/false" }] }, "linux": {|'),
		stderr: /error running hook #0: .*exit status 1, stdout: , stderr: /,
	},
	{ line: edited('s|"sh"|"nosuch"|') },
	{ line: `${edited('s|"sh"|"/etc"|')}; ${edited('s|"sh"|"/no/such"|')}` },
	{ line: `${edited('s|"cwd": "/"|"cwd": "rel"|')}; ${edited('s|"path": "/run[^"]*"|"path": "/no/root"|')}` },
	{
		/* The disk of the state directory is full. */
		line: "mkdir $DIR/full; mount -t tmpfs -o size=16k tmpfs $DIR/full; head -c 16384 /dev/zero >$DIR/full/zero 2>/dev/null; runc --root $DIR/full create --bundle $BUNDLE y </dev/null; echo $?; ls $DIR/full; umount $DIR/full; rmdir $DIR/full",
		stderr: /runc create failed|no space left on device/,
	},
];
