/*
 * The check of lab 10: the program exports `contain`, which runs a script in a container on this kernel, `enclose`, which
 * runs it in a machine, and the scripts `probe` and `breakOut`. The check makes a directory that a container must not see,
 * keeps it open, and looks at what scripts print and which file comes to be in it.
 */
import { closeSync, existsSync, mkdtempSync, openSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { explain, TsvmmError } from "../../base/errors.ts";
import { run } from "../../host/command.ts";
import { missingForLinux } from "../../host/virtualization.ts";
import type { Attempt } from "../attempt.ts";
import type { Lab } from "../lab.ts";
import { patienceSeconds } from "../patience.ts";
import { quote } from "../report.ts";

type RunScript = (script: string, leaked?: number) => Promise<string>;

/** What the program exports. A call that fails ends the check. */
interface Program {
	readonly contain: RunScript;
	/** As it was exported. */
	readonly enclose: RunScript;
	probe(): Promise<string>;
	sameKernel(one: string, other: string): Promise<boolean>;
	breakOut(descriptor: number): Promise<string>;
}

/** The container's descriptor that is the directory. */
const LEAKED = 3;
const NAMESPACES = { mnt: "mount", pid: "PID", uts: "UTS", ipc: "IPC", net: "network" } as const;
/** A kernel that says to be another: a version, a host name and an uptime that are not its own. */
const DISGUISE = [
	...["--user", "--map-root-user", "--uts", "--time", "--boottime", "1000000", "--fork"],
	...["setarch", "--uname-2.6", "sh", "-c", 'hostname elsewhere 2>/dev/null; eval "$1"', "sh"],
];

export const wallLab: Lab = {
	number: 10,
	name: "wall",
	title: "a container in a VM",
	needsKvm: false,
	bootsLinux: true,
	async check(attempt) {
		const program = await programOf(attempt);
		await checkHost(attempt);
		const host = new HostDirectory();
		try {
			await checkContainer(attempt, program, host);
			await checkEvidence(attempt, program);
			await checkEscape(attempt, program, host);
			await checkMachine(attempt, program, host);
		} finally {
			host.remove();
		}
	},
};

async function programOf(attempt: Attempt): Promise<Program> {
	const exported = async <T>(name: string) => await attempt.exported<T>(name, "function");
	const contain = await exported<RunScript>("contain");
	const enclose = await exported<RunScript>("enclose");
	const probe = await exported<() => string>("probe");
	const sameKernel = await exported<(one: string, other: string) => boolean>("sameKernel");
	const breakOut = await exported<(descriptor: number) => string>("breakOut");
	const text = async (what: string, work: () => string | Promise<string>) => String(await attempt.call(what, work));
	return {
		contain: (script, leaked) => text("contain", () => contain(script, leaked)),
		enclose,
		probe: () => text("probe", probe),
		sameKernel: (one, other) => attempt.call("sameKernel", () => sameKernel(one, other)),
		breakOut: (descriptor) => text("breakOut", () => breakOut(descriptor)),
	};
}

/** A directory of the host with a file in it. The host has it open. */
class HostDirectory {
	readonly path = mkdtempSync(join(tmpdir(), "tsvmm-lab-10-"));
	readonly secret = join(this.path, "secret");
	readonly descriptor: number;

	constructor() {
		writeFileSync(this.secret, "of the host\n");
		this.descriptor = openSync(this.path, "r");
	}

	/** Whether somebody has come out. It is forgotten then. */
	takeCanary(): boolean {
		const canary = join(this.path, "canary");
		const isThere = existsSync(canary);
		rmSync(canary, { force: true });
		return isThere;
	}

	remove(): void {
		closeSync(this.descriptor);
		rmSync(this.path, { recursive: true, force: true });
	}
}

/** This host must allow what the program is to do. */
async function checkHost({ report }: Attempt): Promise<void> {
	try {
		await run("unshare", [...DISGUISE, "true"]);
	} catch (error) {
		const hint = error instanceof TsvmmError && error.code === "ERR_TOOL_MISSING" ? error.hint : undefined;
		report.fail(
			`this host makes no namespaces for you: ${explain(error)}`,
			hint ??
				"Check it in the lab: TSVMM_HOST=lab tsvmm learn check 10. Ubuntu has a switch: kernel.apparmor_restrict_unprivileged_userns",
		);
	}
}

async function checkContainer({ report }: Attempt, program: Program, host: HostDirectory): Promise<void> {
	const look = (script: string) => program.contain(script);
	const hello = await look("echo hello from $$");
	report.must(
		hello === "hello from 1\n",
		"contain runs a script, which is process 1, and gives what it prints",
		`contain("echo hello from $$") gives ${quote(hello)}; "hello from 1\\n" was expected`,
		/^hello from \d+\n$/.test(hello)
			? "Make a PID namespace: unshare --pid --fork. Only what is forked then is in it, and the first is process 1"
			: "Spawn unshare with the script for sh -c, and collect its standard output",
	);
	const own = linksOf(
		await look(`for name in ${Object.keys(NAMESPACES).join(" ")}; do readlink /proc/self/ns/$name; done; true`),
	);
	report.must(
		own.length === Object.keys(NAMESPACES).length,
		"it has a /proc",
		"there is no /proc in it: nothing can be told about its processes",
		"Mount one while you are in the PID namespace: mount -t proc proc proc",
	);
	const shared = Object.entries(NAMESPACES).filter(([name]) => own.includes(readlinkSync(`/proc/self/ns/${name}`)));
	report.must(
		shared.length === 0,
		`it has namespaces of its own: ${Object.values(NAMESPACES).join(", ")}`,
		`it shares a namespace with the host: ${shared.map(([, what]) => what).join(", ")}`,
		"See man unshare: each namespace has an option",
	);
	const processes = await look("cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
	report.must(
		!processes.includes("learn attempt"),
		"it sees no process of the host",
		"it sees processes of the host, also this check: its /proc is the host's",
		"Mount a new proc in the container's root; a bind mount shows the old one",
	);
	const roots = `"" $(cut -d' ' -f5 /proc/self/mountinfo)`;
	const found = await look(`for root in ${roots}; do grep -qs . "$root${host.secret}" && echo "$root/"; done; true`);
	report.must(
		found === "",
		"it does not see the host's files",
		`it sees the host's files: ${host.secret} is there, below ${quote(found.trim().split("\n")[0]!)}`,
		"Change the root by pivot_root, and take the old one away: umount -l",
	);
	const entered = await look(`nsenter --mount=/proc/self/ns/mnt cat ${host.secret} 2>&-; true`);
	report.must(
		entered === "",
		"nor after nsenter, which leaves a chroot",
		`a script has left your root by nsenter --mount=/proc/self/ns/mnt, and has read ${host.secret}`,
		"Use pivot_root in place of chroot: it changes the root of the mount namespace, not only of a process",
	);
}

const linksOf = (text: string): string[] => text.split("\n").filter((line) => /^\w+:\[\d+\]$/.test(line));

async function checkEvidence({ report }: Attempt, program: Program): Promise<void> {
	const script = await program.probe();
	const onHost = async () => (await run("sh", ["-c", script], { accept: "any" })).stdout;
	const host = await onHost();
	report.must(
		host.trim() !== "",
		"the probe prints something on the host",
		`the probe, ${quote(script)}, prints nothing on the host`,
		"Look for a file in /proc/sys/kernel that a kernel makes at its start",
	);
	const expectSame = async (other: string, where: string, hint: string) =>
		report.must(
			(await program.sameKernel(host, other)) === true,
			`one kernel: the host and ${where}`,
			`sameKernel takes ${where} for another kernel; the probe printed ${quote(host)}, and there ${quote(other)}`,
			hint,
		);
	await expectSame(await onHost(), "the host a moment later", "Compare what stays the same until the next boot");
	const inside = await program.contain(script);
	await expectSame(inside, "the container", "Find something that no namespace has for itself");
	const { stdout: disguised } = await run("unshare", [...DISGUISE, script], { accept: "any" });
	await expectSame(
		disguised,
		"a container that says to be Linux 2.6 with another name and uptime",
		"Use nothing of uname or the uptime: setarch and namespaces change what they tell. A boot has an identity",
	);
	const other = host.replace(/[0-9a-z]/g, (letter) => (letter === "9" ? "0" : letter === "z" ? "a" : next(letter)));
	report.must(
		(await program.sameKernel(host, other)) === false,
		"another evidence is another kernel",
		`sameKernel takes ${quote(host)} and ${quote(other)} for one kernel`,
		"Compare what the probe printed",
	);
}

const next = (letter: string): string => String.fromCharCode(letter.charCodeAt(0) + 1);

async function checkEscape({ report }: Attempt, program: Program, host: HostDirectory): Promise<void> {
	const script = await program.breakOut(LEAKED);
	const printed = await program.contain(`(${script}\n) 2>&1; true`, host.descriptor);
	if (!host.takeCanary()) {
		const seen = await program.contain(`ls /proc/self/fd/${LEAKED}/ 2>&-; true`, host.descriptor);
		const isOpen = seen.includes("secret");
		report.fail(
			isOpen
				? `the container's descriptor ${LEAKED} is the host's directory, but the escape wrote no canary; it printed ${quote(printed)}`
				: `the container's descriptor ${LEAKED} is not the directory that contain was given`,
			isOpen
				? `Write to /proc/self/fd/${LEAKED}/canary: the path goes on from what the descriptor has open`
				: `Give it to spawn as the fourth entry of stdio: that is descriptor ${LEAKED} of the child`,
		);
	}
	report.right(
		"by a descriptor that was left open, the escape wrote a file of the host, which the container does not see",
	);
	await program.contain(`(${script}\n) 2>&1; true`);
	report.must(
		!host.takeCanary(),
		"without the descriptor the same script finds no way out",
		"the escape wrote its canary although contain was given no descriptor",
		"Give the container no descriptor but those that contain was given",
	);
}

/** What a script prints after each part. */
const CUT = "@@next@@";

async function checkMachine({ report, settle, unwrap }: Attempt, program: Program, host: HostDirectory): Promise<void> {
	const parts = [
		await program.probe(),
		await program.breakOut(LEAKED),
		`cat ${host.secret} 2>&-`,
		"cat /sys/bus/virtio/devices/*/modalias",
	];
	const script = parts.map((part) => `(${part}\n) 2>&1; echo ${CUT}`).join("\n");
	report.doing("enclose, which boots a machine");
	const missing = missingForLinux();
	const ending = await settle(() => program.enclose(script, host.descriptor), 4 * patienceSeconds());
	if (ending.kind !== "value" && missing !== undefined) {
		report.fail(`enclose was not seen to work: ${missing}`, "Check it in the lab: leave TSVMM_HOST unset");
	}
	const output = unwrap(ending, "enclose");
	const [evidence = "", escaped = "", secret = "", devices = "", ...rest] = String(output).split(`${CUT}\n`);
	report.must(
		rest.length > 0,
		"enclose runs the script to its end, and gives what it prints",
		`enclose gives ${quote(String(output))}; the output of the whole script was expected`,
		'Use runContainer({ image: "busybox", args: ["sh", "-c", script] }), and collect its stdout',
	);
	const onHost = await run("sh", ["-c", await program.probe()], { accept: "any" });
	report.must(
		!(await program.sameKernel(onHost.stdout, evidence)),
		"two kernels: the host's and the machine's",
		`it runs on the host's kernel: the probe printed ${quote(evidence)}`,
		"Start a machine by runContainer, and let the probe print what differs between two boots",
	);
	report.must(
		!host.takeCanary() && secret === "",
		"there the same escape wrote nothing, and the host's file is not to be seen",
		"from the machine the host's directory was reached: something of it was shared with the machine",
		"Share nothing: what is given as `shares` is a door in the wall, and yours to open",
	);
	report.expect(
		escaped.trim() !== "",
		`its kernel has no descriptor ${LEAKED}: a number has a meaning in one kernel only`,
		"the escape printed no error in the machine",
		"Let the shell say what failed",
	);
	report.expect(
		/^virtio:/.test(devices),
		"all that it has of the host are virtio devices",
		`the machine shows no virtio devices: ${quote(devices)}`,
	);
}
