/*
 * exec: one more process in a container that runs, in the foreground or detached with a process of its own.
 */
import { readFileSync } from "node:fs";
import { exitStatus } from "../../agent/session.ts";
import { explain } from "../../base/errors.ts";
import { launchDetached, readinessReporter } from "../../host/detached-process.ts";
import { checkProcess, Process, parse, readBundle } from "../../oci/bundle.ts";
import { runExec } from "../../oci/exec-process.ts";
import { OciError } from "../../oci/runtime-error.ts";
import { checkId, OciContainer } from "../../oci/state.ts";
import { logOf, writePid } from "./life.ts";

export interface ExecFlags {
	root: string;
	process?: string | undefined;
	detach: boolean;
	tty: boolean;
	pidFile?: string | undefined;
	consoleSocket?: string | undefined;
	cwd?: string | undefined;
	env: string[];
	user?: string | undefined;
	additionalGids: string[];
	cap: string[];
	noNewPrivs: boolean;
	ignorePaused: boolean;
}

/** As runc: what exec itself cannot do has this status. */
const EXEC_FAILED = 255;

/** Runs `exec`. @returns the exit status */
export async function exec(id: string, words: readonly string[], flags: ExecFlags): Promise<number> {
	try {
		return await attempt(id, words, flags);
	} catch (cause) {
		const [code, message] = cause instanceof OciError ? [cause.code, cause.message] : ["ERR_OCI_EXEC", explain(cause)];
		throw new OciError(code, `exec failed: ${message}`, { cause, exitStatus: EXEC_FAILED });
	}
}

async function attempt(id: string, words: readonly string[], flags: ExecFlags): Promise<number> {
	const container = new OciContainer(flags.root, checkId(id));
	const { status, bundle } = container.read();
	if (status === "stopped") throw new OciError("ERR_OCI_STOPPED", "cannot exec in a stopped container");
	if (status === "paused" && !flags.ignorePaused)
		throw new OciError("ERR_OCI_PAUSED", "cannot exec in a paused container (use --ignore-paused to override)");
	const process = processOf(bundle, words, flags);
	const { consoleSocket, root, detach } = flags;
	const terminal = process.terminal === true;
	if (detach && terminal && consoleSocket === undefined)
		throw new OciError("ERR_OCI_TERMINAL", "cannot allocate tty if runc will detach without setting console socket");
	if (!detach) {
		const exit = await runExec(container, process, {
			consoleSocket,
			onReady: () => recordPid(flags, globalThis.process.pid),
		});
		return exitStatus(exit);
	}
	const console = consoleSocket === undefined ? [] : ["--console-socket", consoleSocket];
	const pid = await launchDetached({
		words: ["oci", "--root", root, "exec-process", ...console, "--process-json", JSON.stringify(process), id],
		log: logOf(consoleSocket),
		attempt: "unable to start container process: its process",
		code: "ERR_OCI_EXEC",
	});
	recordPid(flags, pid);
	return 0;
}

function recordPid({ pidFile }: ExecFlags, pid: number): void {
	if (pidFile !== undefined) writePid(pidFile, pid);
}

/** The process that `exec --detach` has started. Its end is that of the process in the container. @returns its exit status */
export async function superviseExec(
	id: string,
	{ root, processJson, consoleSocket }: { root: string; processJson: string; consoleSocket?: string | undefined },
): Promise<number> {
	const onReady = readinessReporter("ERR_OCI_EXEC");
	try {
		const process = parse(Process, processJson);
		return exitStatus(await runExec(new OciContainer(root, id), process, { consoleSocket, onReady }));
	} catch (error) {
		onReady(error);
		/* Standard error is the process's. */
		return 1;
	}
}

/** What to run: a file has all of it; otherwise it is the container's own process but for what the flags say. */
function processOf(bundle: string, words: readonly string[], flags: ExecFlags): Process {
	if (flags.process !== undefined) return checkProcess(parse(Process, readText(flags.process)));
	const own = readBundle(bundle).process;
	const [uid, gid] = (flags.user ?? "").split(":");
	const bounding = [...(own.capabilities?.bounding ?? []), ...flags.cap];
	const user = {
		uid: uid ? Number(uid) : (own.user?.uid ?? 0),
		gid: gid ? Number(gid) : (own.user?.gid ?? 0),
		umask: own.user?.umask,
		additionalGids: [...(own.user?.additionalGids ?? []), ...flags.additionalGids.map(Number)],
	};
	return checkProcess({
		...own,
		args: [...words],
		env: [...own.env, ...flags.env],
		cwd: flags.cwd ?? own.cwd,
		terminal: flags.tty,
		consoleSize: undefined,
		user,
		capabilities: { effective: [], permitted: [], inheritable: [], ambient: [], ...own.capabilities, bounding },
		noNewPrivileges: flags.noNewPrivs || own.noNewPrivileges,
	});
}

function readText(path: string): string {
	try {
		return readFileSync(path, "utf8");
	} catch (cause) {
		throw new OciError("ERR_OCI_BUNDLE", `open ${path}: ${explain(cause)}`, { cause });
	}
}
