/*
 * tsvmm-oci: the command line of an OCI runtime, with the commands and flags of runc, so that podman, containerd and
 * docker take it for one. What goes wrong is told in runc's way (log.ts), and with its exit status.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import { errnoName } from "../../base/errors.ts";
import { tsvmmVersion } from "../../host/package-version.ts";
import { isInUserNamespace } from "../../host/user-namespace.ts";
import { OciError } from "../../oci/runtime-error.ts";
import { OCI_VERSION } from "../../oci/state.ts";
import type { ExecFlags } from "./exec.ts";
import { type LogOptions, logFailure } from "./log.ts";

/* A command loads what it needs: podman calls several for each container. */
const life = () => import("./life.ts");
const shows = () => import("./show.ts");

const NAME = "tsvmm-oci";
/** As runc: a command that there is not. */
const NO_COMMAND = 3;

interface GlobalFlags extends LogOptions {
	root: string;
	systemdCgroup: boolean;
}

const collect = (value: string, all: string[]) => [...all, value];

/** Runs one command line. @returns the exit status */
export async function ociMain(argv: readonly string[]): Promise<number> {
	let global: GlobalFlags = { root: "", systemdCgroup: false, logFormat: "text", debug: false };
	let status = 0;
	const program = programOf(
		() => program.opts<GlobalFlags>(),
		(code) => {
			status = code;
		},
	);
	try {
		await program.parseAsync(argv, { from: "user" });
		return status;
	} catch (error) {
		global = { ...global, ...program.opts<GlobalFlags>() };
		if (!(error instanceof CommanderError)) return logFailure(error, global);
		if (error.exitCode === 0) return 0;
		const [code, message] = usageError(error, argv);
		return logFailure(new OciError("ERR_OCI_USAGE", message, { exitStatus: code }), global);
	}
}

function usageError({ code, message }: CommanderError, argv: readonly string[]): [exitStatus: number, message: string] {
	const text = message.replace(/^error: /, "");
	if (code === "commander.unknownCommand") {
		return [NO_COMMAND, `No help topic for '${/'(.*?)'/.exec(text)?.[1] ?? argv.join(" ")}'`];
	}
	const flag = /unknown option '-*(.*)'/.exec(text)?.[1];
	return [1, flag === undefined ? text : `Incorrect Usage: flag provided but not defined: -${flag}`];
}

function programOf(global: () => GlobalFlags, exits: (status: number) => void): Command {
	const program = new Command(NAME)
		.description("an OCI runtime whose containers are virtual machines")
		.version(versionText(), "-v, --version")
		.option("--debug", "log more", false)
		.option("--log <file>", "where errors are logged as well")
		.option("--log-format <format>", "text or json", "text")
		.option("--root <directory>", "where the state of containers is kept", defaultRoot())
		.option("--systemd-cgroup", "count containers in scopes of systemd", false)
		.option("--criu <path>", "accepted for callers of runc; without meaning")
		.option("--rootless <how>", "accepted for callers of runc; without meaning")
		.enablePositionalOptions()
		.configureOutput({ writeErr: () => undefined })
		.exitOverride();
	const command: Add = (name, summary, { words = "<id>", hidden = false } = {}) =>
		program.command(`${name} ${words}`.trim(), { hidden }).description(summary).exitOverride();
	addLife(command, global, exits);
	addExec(command, global, exits);
	addShows(command, global);
	return program;
}

/** @param hidden a process that another command starts */
type Add = (name: string, summary: string, how?: { words?: string; hidden?: boolean }) => Command;

function creating(command: Command): Command {
	return command
		.option("-b, --bundle <directory>", "the bundle", ".")
		.option("--pid-file <file>", "where the process's number is written to")
		.option("--console-socket <socket>", "where the master of the terminal is sent to")
		.option("--no-pivot", "accepted for callers of runc; without meaning")
		.option("--no-new-keyring", "accepted for callers of runc; without meaning")
		.option("--preserve-fds <count>", "accepted for callers of runc; descriptors stay on the host", "0");
}

function addLife(add: Add, global: () => GlobalFlags, exits: (status: number) => void): void {
	const root = () => global().root;
	const how = () => ({ root: root(), systemd: global().systemdCgroup });
	creating(add("create", "make a container")).action((id: string, flags) =>
		failing("create", async () => (await life()).create(id, { ...flags, ...how() })),
	);
	creating(add("run", "make and start a container"))
		.option("-d, --detach", "do not wait for its end", false)
		.option("--keep", "do not remove it when it has ended", false)
		.option("--no-subreaper", "accepted for callers of runc; without meaning")
		.action((id: string, flags) =>
			failing("run", async () => exits(await (await life()).run(id, { ...flags, ...how() }))),
		);
	add("start", "let a container's process run").action(async (id: string) => (await life()).start(id, root()));
	add("kill", "send a signal to a container's process", { words: "<id> [signal]" })
		.option("-a, --all", "to all processes of the container", false)
		.action(async (id: string, signal: string | undefined, { all }: { all: boolean }) =>
			(await life()).kill(id, signal ?? "SIGTERM", { root: root(), all }),
		);
	add("delete", "remove a container")
		.option("-f, --force", "also if it still runs, or if there is none", false)
		.action(async (id: string, { force }: { force: boolean }) => (await life()).remove(id, { root: root(), force }));
	add("pause", "stop all processes of a container").action(async (id: string) =>
		(await life()).pause(id, root(), true),
	);
	add("resume", "let a paused container go on").action(async (id: string) => (await life()).pause(id, root(), false));
	addUpdate(add, root);
	add("supervise", "the process of a container; `create` starts it", { hidden: true })
		.option("--console-socket <socket>")
		.action(async (id: string, flags: { consoleSocket?: string }) =>
			exits(await (await life()).supervise(id, { ...flags, ...how() })),
		);
}

/** "runc create failed: ..." */
async function failing(name: string, work: () => Promise<void>): Promise<void> {
	try {
		await work();
	} catch (cause) {
		const { code, exitStatus } = cause instanceof OciError ? cause : { code: "ERR_OCI_FAILED", exitStatus: 1 };
		throw new OciError(code, `${NAME} ${name} failed: ${(cause as Error).message}`, { cause, exitStatus });
	}
}

function addUpdate(add: Add, root: () => string): void {
	add("update", "change a container's limits")
		.option("-r, --resources <file>", "a file of limits, or - for standard input")
		.option("--memory <bytes>", "most memory")
		.option("--memory-reservation <bytes>", "memory that is not taken away")
		.option("--memory-swap <bytes>", "accepted for callers of runc; a machine has no swap")
		.option("--cpu-period <us>", "period of the quota")
		.option("--cpu-quota <us>", "processor time in a period")
		.option("--cpu-share <shares>", "its weight among others")
		.option("--pids-limit <count>", "most processes")
		.action(async (id: string, flags: Record<string, string>) =>
			(await import("./update.ts")).update(id, root(), flags),
		);
}

function addExec(add: Add, global: () => GlobalFlags, exits: (status: number) => void): void {
	add("exec", "run one more process in a container", { words: "<id> [command...]" })
		.passThroughOptions()
		.option("-p, --process <file>", "the process as config.json has it")
		.option("-d, --detach", "do not wait for its end", false)
		.option("-t, --tty", "give it a terminal", false)
		.option("--pid-file <file>", "where the process's number is written to")
		.option("--console-socket <socket>", "where the master of the terminal is sent to")
		.option("--cwd <directory>", "its working directory")
		.option("-e, --env <variable>", "one more variable", collect, [])
		.option("-u, --user <uid[:gid]>", "its user")
		.option("-g, --additional-gids <gid>", "one more group", collect, [])
		.option("-c, --cap <capability>", "one more capability", collect, [])
		.option("--no-new-privs", "no program gives it more rights")
		.option("--ignore-paused", "also in a paused container", false)
		.option("--preserve-fds <count>", "accepted for callers of runc; descriptors stay on the host", "0")
		.option("--process-label <label>", "accepted for callers of runc; without meaning")
		.option("--apparmor <profile>", "accepted for callers of runc; without meaning")
		.option("--cgroup <path>", "accepted for callers of runc; without meaning")
		.action(async (id: string, words: string[], flags: ExecFlags & { newPrivs: boolean }) => {
			/* "--no-new-privs" is how commander negates "newPrivs". */
			const { exec } = await import("./exec.ts");
			exits(await exec(id, words, { ...flags, noNewPrivs: !flags.newPrivs, root: global().root }));
		});
	add("exec-process", "a process in a container; `exec --detach` starts it", { hidden: true })
		.option("--console-socket <socket>")
		.requiredOption("--process-json <json>")
		.action(async (id: string, flags: { processJson: string; consoleSocket?: string }) => {
			const { superviseExec } = await import("./exec.ts");
			exits(await superviseExec(id, { ...flags, root: global().root }));
		});
}

function addShows(add: Add, global: () => GlobalFlags): void {
	const root = () => global().root;
	add("state", "print the state of a container").action(async (id: string) => (await shows()).printState(id, root()));
	add("list", "list containers", { words: "" })
		.option("-f, --format <format>", "table or json", "table")
		.option("-q, --quiet", "only their ids", false)
		.action(async (flags: { format: string; quiet: boolean }) => (await shows()).printList(root(), flags));
	add("ps", "list the processes in a container", { words: "<id> [options...]" })
		.passThroughOptions()
		.option("-f, --format <format>", "table or json", "table")
		.action(async (id: string, _words: string[], { format }: { format: string }) =>
			(await shows()).printProcesses(id, root(), format),
		);
	add("events", "tell what a container uses")
		.option("--stats", "once", false)
		.option("--interval <duration>", "how often, as in 5s", "5s")
		.action(async (id: string, { stats, interval }: { stats: boolean; interval: string }) =>
			(await shows()).printEvents(id, root(), { stats, intervalMs: intervalOf(interval) }),
		);
	add("spec", "write a config.json to begin with", { words: "" })
		.option("-b, --bundle <directory>", "where", ".")
		.option("--rootless", "accepted for callers of runc; without meaning", false)
		.action(({ bundle }: { bundle: string }) => writeSpec(bundle));
	add("features", "print what the runtime can do", { words: "" }).action(async () => (await shows()).printFeatures());
}

function intervalOf(text: string): number {
	const [, count, unit] = /^(\d+(?:\.\d+)?)(ms|s|m)$/.exec(text) ?? [];
	if (count === undefined) throw new OciError("ERR_OCI_USAGE", `invalid duration ${JSON.stringify(text)}`);
	return Math.max(Number(count) * { ms: 1, s: 1000, m: 60_000 }[unit as "s"], 1);
}

async function writeSpec(bundle: string): Promise<void> {
	const { DEFAULT_CONFIG } = await import("./spec.ts");
	try {
		writeFileSync(join(bundle, "config.json"), `${JSON.stringify(DEFAULT_CONFIG, undefined, "\t")}\n`, { flag: "wx" });
	} catch (error) {
		if (errnoName(error) !== "EEXIST") throw error;
		throw new OciError("ERR_OCI_EXISTS", "File config.json exists. Remove it first");
	}
}

function versionText(): string {
	return `${NAME} version ${tsvmmVersion()}\nspec: ${OCI_VERSION}`;
}

/** As runc's: a user's own, also when podman has made the user root in a namespace. */
function defaultRoot(): string {
	const { XDG_RUNTIME_DIR, USER } = process.env;
	const isUser = process.getuid!() !== 0 || (isInUserNamespace() && USER !== "root");
	return isUser && XDG_RUNTIME_DIR ? join(XDG_RUNTIME_DIR, "tsvmm-oci") : "/run/tsvmm-oci";
}
