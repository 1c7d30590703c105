/*
 * Command lines on containers that podman-table.test.ts gives to tsvmm, and whose answers it compares with podman's in
 * answers.json. Each is a line of a shell, where `ctr` is the program, $IMAGE a busybox and $DIR a scratch directory. They
 * run in this order, so most act on what the lines before have made.
 *
 * A command of tsvmm that fails has status 125, where podman has 1, 2 or 255 now and then.
 */

export interface Row {
	line: string;
	/** What both programs' stderr says; when missing both are the same, or empty. */
	says?: RegExp;
	/** Docker's exit status, where podman has another. */
	status?: number;
	/** Docker's output, where podman has another; null: the formats have nothing in common. */
	stdout?: string | RegExp | null;
}

const NOT_FOUND = /no such|cannot find|no container|not found|not known|does not exist|unknown/i;
const NOT_RUNNING =
	/not running|running container|container state improper|improper state|created state|state created|it is (created|exited)|not paused/i;

const row = (line: string, more: Omit<Row, "line"> = {}): Row => ({ line, ...more });

/** A container that only waits for its end, and says so. */
const WAITER = "trap 'echo bye; exit 5' TERM; echo started; echo problem >&2; while :; do sleep 0.2; done";

/** Lines that start nothing, so that they need no lab. */
export const CREATE_ROWS: readonly Row[] = [
	row("ctr create -q --name made -l tier=web -e COLOUR=green -w /srv -u 1000 --entrypoint cat $IMAGE -n", {
		stdout: /^ID64\n$/,
	}),
	row("ctr create -q --name made $IMAGE true", { says: /in use|has that name/ }),
	row("ctr create -q --name 'bad name' $IMAGE true", { says: /name/ }),
	row("ctr create -q --no-such-flag $IMAGE true", { says: /unknown (flag|option)/ }),
	row("ctr create -q --pull never no-such-image true", { says: NOT_FOUND }),
	row("ctr create -q -m nonsense $IMAGE true", { says: /nonsense/ }),
	row("ctr create -q --ulimit nonsense=1 $IMAGE true", { says: /ulimit|limit/ }),
	row("ctr create -q --cap-add NONSENSE $IMAGE true", { says: /NONSENSE/ }),
	row("ctr create -q --restart nonsense $IMAGE true", { says: /nonsense/ }),
	row("ctr create -q --env-file /no/such/file $IMAGE true", { says: /no such file/ }),
	row("ctr create -q --mount type=bind,source=/no/such/directory,target=/x $IMAGE true", {
		says: /no such|not exist|cannot/i,
	}),
	row("ctr inspect --format '{{.State.Status}} {{.State.Running}}' made"),
	row("ctr inspect --format '{{.Config.WorkingDir}} {{.Config.User}}' made"),
	row("ctr inspect --format '{{json .Config.Labels}}' made"),
	row("ctr inspect --format '{{.Name}}' made", { stdout: "/made\n" }),
	row("ctr inspect --format '{{.NoSuchField}}' made", { says: /NoSuchField/ }),
	row("ctr inspect no-such", { says: NOT_FOUND, stdout: "[]\n" }),
	row("ctr ps --format '{{.Names}}'"),
	row("ctr ps -a --format '{{.Names}} {{.State}}'", { stdout: "made created\n" }),
	row("ctr ps -aq", { stdout: /^ID12\n$/ }),
	row("ctr ps -aq --no-trunc", { stdout: /^ID64\n$/ }),
	row("ctr ps -a --filter label=tier=web --format '{{.Names}}'"),
	row("ctr ps -a --filter label=tier=other --format '{{.Names}}'"),
	row("ctr ps -a --filter status=created --format '{{.Names}}'"),
	row("ctr ps -a --filter name=ma --format '{{.Names}}'"),
	row("ctr ps -a --filter nonsense=1", { says: /nonsense/ }),
	row("ctr exec made true", { says: NOT_RUNNING, status: 125 }),
	row("ctr logs made"),
	row("ctr logs no-such", { says: NOT_FOUND }),
	row("ctr kill made", { says: NOT_RUNNING }),
	row("ctr pause made", { says: NOT_RUNNING }),
	row("ctr unpause made", { says: NOT_RUNNING }),
	row("ctr top made", { says: NOT_RUNNING }),
	row("ctr attach made", { says: NOT_RUNNING }),
	row("ctr kill -s NONSENSE made", { says: /NONSENSE/ }),
	row("ctr start no-such", { says: NOT_FOUND }),
	row("ctr stop no-such", { says: NOT_FOUND }),
	row("ctr rm no-such", { says: NOT_FOUND, status: 125 }),
	row("ctr rename made other"),
	row("ctr rename no-such other", { says: NOT_FOUND }),
	row("ctr create -q --name taken $IMAGE true", { stdout: /^ID64\n$/ }),
	row("ctr rename other taken", { says: /in use|has that name/ }),
	row("ctr port taken"),
	row("ctr rm taken", { stdout: "taken\n" }),
	row("ctr rm other", { stdout: "other\n" }),
	row("ctr create -q --name port $NETWORK -p 127.0.0.1:18080:80 -p 18053:53/udp $IMAGE true", { stdout: /^ID64\n$/ }),
	row("ctr port port | sort"),
	row("ctr port port 80", { says: /80|^$/, status: 125 }),
	row("ctr port port 81", { says: /81|^$/, status: 125 }),
	row("ctr rm port", { stdout: "port\n" }),
	row("ctr create -q --name all $NETWORK -P --expose 80 --expose 53/udp -p 81 $IMAGE true", { stdout: /^ID64\n$/ }),
	row("ctr inspect --format '{{range $port, $at := .HostConfig.PortBindings}}{{$port}} {{end}}' all"),
	row("ctr create -q -P --expose eighty $IMAGE true", { says: /eighty/ }),
	row("ctr rm all", { stdout: "all\n" }),

	row("ctr create -q --name kept -m 512M $IMAGE true", { stdout: /^ID64\n$/ }),
	row("ctr update --cpus 1 no-such", { says: NOT_FOUND }),
	row("ctr update --cpus nonsense kept", { says: /nonsense/ }),
	row("ctr update", { says: /missing required argument|accepts 1 arg/ }),
	row("ctr commit no-such", { says: NOT_FOUND }),
	row("ctr commit -c 'NONSENSE x' kept", { says: /NONSENSE/ }),
	row("ctr commit kept 'BAD NAME'", { says: /BAD NAME|invalid reference/ }),
	row("ctr system df --format '{{.Type}}'", { stdout: "Images\nContainers\nLocal Volumes\nTemplates\n" }),
	row("ctr system df | head -n 1 | tr -s ' '"),
	row("ctr system df -v | grep 'space usage' | head -n 3"),
	row("ctr system df -v | grep -ci 'created *kept$'"),
	row("ctr system df --no-such-flag", { says: /unknown (flag|option)/ }),
	/* podman has two of them, because its creation of the network counts. */
	row("ctr events --since 1h --until 1s --filter container=all --filter event=create --format '{{.Status}}'", {
		stdout: "create\n",
	}),
	row("ctr rm kept", { stdout: "kept\n" }),

	row("ctr volume create data"),
	row("ctr volume create data", { says: /already exists|^$/, status: 0, stdout: "data\n" }),
	row("ctr volume ls -q"),
	row("ctr volume inspect --format '{{.Name}} {{.Driver}}' data"),
	row("ctr volume inspect no-such", { says: NOT_FOUND }),
	row("ctr volume rm no-such", { says: NOT_FOUND, status: 125 }),

	row("ctr volume rm data"),
];

/** Lines that start containers. */
export const RUN_ROWS: readonly Row[] = [
	/* What the process finds, and its exit status. */
	row("ctr run -q --rm $IMAGE sh -c 'echo out; echo err >&2; exit 3'"),
	row("ctr run -q --rm $IMAGE no-such-command", { says: /no-such-command/ }),
	row("ctr run -q --rm $IMAGE /etc", { says: /permission denied|directory/i }),
	row("ctr run -q --rm -u nobody-there $IMAGE true", { says: /nobody-there/, status: 125 }),
	row(
		"printf 'A=1\\n# note\\nB=two words\\n' >$DIR/env; printf 'a\\nb\\n' | ctr run -q --rm -i --env-file $DIR/env -e B=3 -e C=4 -w /tmp -h host1 --read-only --tmpfs /scratch -u 1000:1001 --entrypoint sh $IMAGE -c 'wc -l; echo $A $B $C; pwd; hostname; id -u; id -g; touch /scratch/x || echo no; touch /etc/x 2>/dev/null || echo read-only'",
	),
	/* Where the answers were recorded, podman may not set limits. */
	row(
		"ctr run -q --rm --cap-drop ALL --ulimit nofile=100:200 -v data:/data:ro $IMAGE sh -c 'ulimit -n; grep CapEff /proc/self/status; touch /data/x 2>/dev/null || echo read-only'",
		{ says: /rlimit|^$/, status: 0, stdout: "100\nCapEff:\t0000000000000000\nread-only\n" },
	),

	/* One that runs on. */
	row(`ctr run -q -d --name box -l tier=db -e COLOUR=green -v data:/data $IMAGE sh -c "${WAITER}"`, {
		stdout: /^ID64\n$/,
	}),
	row("sleep 1; ctr logs box", { says: /^problem\n$/ }),
	row("ctr logs --tail 1 box 2>/dev/null", { stdout: /^(started\n)?$/ }),
	row("ctr logs -t --tail 2 box 2>&1 | grep -c '^20..-..-..T..:..:'"),
	row("ctr logs --since 2999-01-01T00:00:00Z box", { stdout: "" }),
	row("ctr ps --filter status=running --format '{{.Names}}'"),
	row("ctr ps --format '{{.Names}} {{.Label \"tier\"}}'", { says: /Label|^$/, status: 0, stdout: "box db\n" }),
	row("ctr inspect --format '{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}' box"),
	row("ctr inspect --format '{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}}{{end}}' box"),
	row("ctr exec box sh -c 'echo out; echo err >&2; exit 7'"),
	row("ctr exec -e COLOUR=red -w /etc -u 1000 box sh -c 'echo $COLOUR; pwd; id -u'"),
	row("echo input | ctr exec -i box cat"),
	row("ctr exec box no-such-command", { says: /no-such-command/ }),
	row("ctr exec -w /no/such box true", { says: /no.such/, status: 126 }),
	row("ctr exec no-such true", { says: NOT_FOUND }),
	row("ctr exec box sh -c 'kill -9 $$'"),
	row("ctr exec -d box touch /made-detached >/dev/null; sleep 2; ctr exec box ls /made-detached"),
	row("ctr run -q --name box $IMAGE true", { says: /in use|has that name/ }),
	row("ctr rm box", { says: /running/, status: 125 }),
	row("ctr start box", { stdout: "box\n" }),
	row("ctr volume rm data", { status: 125, says: /in use|being used|has it/ }),
	row("echo content >$DIR/file; ctr cp $DIR/file box:/root/ 2>/dev/null; ctr exec box cat /root/file"),
	row("ctr cp box:/root/file - | tar -xO"),
	row("ctr cp box:/no/such $DIR", { says: /no.such/ }),
	row("ctr cp $DIR/no-such box:/", { says: /no.such/ }),
	row("ctr cp $DIR/file no-such:/", { says: NOT_FOUND }),
	row(
		"ctr exec box sh -c 'rm /etc/group; echo x >>/etc/passwd'; ctr diff box | grep -E '/etc/(group|passwd)|^A /root/file' | sort",
	),
	row("ctr export box | tar -t | sed 's,^\\./,,' | grep -E '^(root/file|etc/passwd|proc/.+|data/.+)$' | sort"),
	row("ctr pause box", { stdout: "box\n" }),
	row("ctr ps -a --filter status=paused --format '{{.Names}}'"),
	row("ctr exec box true", { says: /paused|running containers/, status: 125 }),
	row("ctr unpause box", { stdout: "box\n" }),
	row("ctr top box | grep -c 'echo started'"),
	row("ctr update --cpus 1 box", { stdout: "box\n" }),
	row("ctr stop box", { stdout: "box\n" }),
	row("ctr wait box"),
	row("ctr inspect --format '{{.State.Status}} {{.State.ExitCode}}' box"),
	row("ctr logs --tail 1 box 2>/dev/null"),
	row("ctr exec box true", { says: NOT_RUNNING, status: 125 }),
	row("ctr stop box", { stdout: "box\n" }),
	row("ctr start box", { stdout: "box\n" }),
	row("ctr exec box ls /made-detached"),
	row("ctr kill box; ctr wait box", { stdout: "box\n137\n" }),
	row("ctr ps -a --filter exited=137 --format '{{.Names}}'"),
	row("ctr rm -f box", { stdout: "box\n" }),
	row("ctr volume rm data"),
	row("ctr ps -aq"),
];

/** Lines that start containers and write the image store, so that each is handed over to the lab by itself. */
export const COMMIT_ROWS: readonly Row[] = [
	row("ctr run -q --name changed $IMAGE sh -c 'echo made >/made; rm /etc/group'"),
	row("ctr commit -q -c 'ENV KIND=committed' changed localhost/table:v1", { stdout: /^sha256:ID64\n$/ }),
	row("ctr image inspect --format '{{len .RootFS.Layers}} {{.Config.Cmd}}' localhost/table:v1"),
	row("ctr run -q --rm localhost/table:v1 sh -c 'cat /made; ls /etc/group; echo $KIND'"),
	row("ctr rm changed", { stdout: "changed\n" }),
	row("ctr rmi localhost/table:v1", { stdout: /^Untagged: localhost\/table:v1\n/ }),
];

/** Lines on the image store, which the lab cannot write. */
export const IMAGE_ROWS: readonly Row[] = [
	row("ctr images -q"),
	row("ctr images --format '{{.Tag}} {{.ID}}'"),
	row("ctr tag $IMAGE other:v1"),
	row("ctr images -q other:v1"),
	row("ctr tag no-such other:v1", { says: NOT_FOUND }),
	row("ctr tag $IMAGE 'BAD NAME'", { says: /BAD NAME/ }),
	row("ctr image inspect --format '{{.Architecture}} {{.Os}} {{len .RootFS.Layers}}' other:v1"),
	row("ctr image inspect no-such", { says: NOT_FOUND, stdout: "[]\n" }),
	row("ctr history -q other:v1 | grep -c .", { status: 0, stdout: "1\n" }),
	row("ctr save no-such >/dev/null", { says: NOT_FOUND }),
	row("ctr load -i /no/such/file", { says: /no such file/ }),
	row("ctr rmi other:v1", { stdout: /^Untagged: .*other:v1\n$/ }),
	row("ctr rmi no-such", { says: NOT_FOUND, status: 125 }),
	row("ctr pull -q localhost:1/no-such", { says: /refused|connect/i, stdout: "" }),
	row("ctr push localhost:1/no-such", { says: NOT_FOUND }),
	row("ctr login -u me -p wrong localhost:1", { says: /refused|connect/i }),
];
