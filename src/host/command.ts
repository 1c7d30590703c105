/*
 * Runs the host's own tools (apt-get, make, mkfs, ip ...) as children and collects what they say. The one place that
 * knows which Debian package brings which tool, so that a missing tool comes with its remedy. A child never outlives
 * `run`: when `signal` aborts, its whole process group is ended.
 */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { errnoName, explain, HostError } from "../base/errors.ts";

/** The Debian package that has a tool, where the names differ. */
const PACKAGES: Record<string, string> = {
	"apt-get": "apt",
	"apt-cache": "apt",
	"apt-helper": "apt",
	"dpkg-deb": "dpkg",
	"clang-format": "clang-format",
	debugfs: "e2fsprogs",
	depmod: "kmod",
	e2fsck: "e2fsprogs",
	flex: "flex",
	"fsck.erofs": "erofs-utils",
	fuser: "psmisc",
	gcc: "gcc libc6-dev",
	ip: "iproute2",
	lz4: "lz4",
	losetup: "mount",
	make: "make",
	"mkfs.erofs": "erofs-utils",
	"mkfs.ext4": "e2fsprogs",
	mke2fs: "e2fsprogs",
	mksquashfs: "squashfs-tools",
	modprobe: "kmod",
	"musl-gcc": "musl-tools",
	patch: "patch",
	ping: "iputils-ping",
	"qemu-system-x86_64": "qemu-system-x86",
	resize2fs: "e2fsprogs",
	sqfstar: "squashfs-tools",
	strip: "binutils",
	objcopy: "binutils",
	readelf: "binutils",
	tar2sqfs: "squashfs-tools-ng",
	truncate: "coreutils",
	tune2fs: "e2fsprogs",
	unsquashfs: "squashfs-tools",
	xz: "xz-utils",
	busybox: "busybox-static",
};

/** The Debian package (or packages) to install for `tool`. */
export function packageOf(tool: string): string {
	return PACKAGES[tool] ?? tool;
}

/** Administrators' tools live in sbin directories that a user's PATH often lacks. */
function searchPath(env: NodeJS.ProcessEnv): string {
	const path = (env.PATH ?? "").split(delimiter).filter((directory) => directory !== "");
	for (const directory of ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]) {
		if (!path.includes(directory)) path.push(directory);
	}
	return path.join(delimiter);
}

/** The full path of a tool, or undefined when this host does not have it. */
export function findTool(tool: string): string | undefined {
	const candidates = tool.includes("/")
		? [tool]
		: searchPath(process.env)
				.split(delimiter)
				.map((directory) => join(directory, tool));
	return candidates.find((path) => {
		try {
			accessSync(path, constants.X_OK);
			return statSync(path).isFile();
		} catch {
			return false;
		}
	});
}

/** The error for a tool that is not here. */
export function toolMissing(tool: string, cause?: unknown): HostError {
	return new HostError("ERR_TOOL_MISSING", `Cannot run ${tool}: it is not installed`, {
		hint: `apt-get install ${packageOf(tool)}`,
		cause,
	});
}

export interface RunOptions {
	cwd?: string;
	/** Added to this process's environment; undefined removes a variable. */
	env?: Record<string, string | undefined>;
	/** Written to the tool's stdin, which is /dev/null otherwise. */
	input?: string | Uint8Array;
	/** Called with each full line of stdout and stderr as it comes. */
	onLine?: (line: string, stream: "stdout" | "stderr") => void;
	signal?: AbortSignal;
	/** Exit statuses that are no failure; [0] when missing. "any" takes all. */
	accept?: readonly number[] | "any";
}

export interface RunResult {
	stdout: string;
	stderr: string;
	/** Exit status, or 128 + signal number. */
	status: number;
}

const KEPT_CHARACTERS = 16 * 1024 * 1024;
const SIGNALS: Record<string, number> = { SIGHUP: 1, SIGINT: 2, SIGABRT: 6, SIGKILL: 9, SIGSEGV: 11, SIGTERM: 15 };

/** Splits a stream's text into lines for `onLine` and keeps it all (up to a bound). */
function collect(stream: Readable, onLine: ((line: string) => void) | undefined): () => string {
	let text = "";
	let rest = "";
	stream.setEncoding("utf8");
	stream.on("data", (chunk: string) => {
		if (text.length < KEPT_CHARACTERS) text += chunk;
		if (onLine === undefined) return;
		const lines = (rest + chunk).split(/\r?\n/);
		rest = lines.pop()!;
		for (const line of lines) onLine(line);
	});
	stream.on("end", () => {
		if (rest !== "") onLine?.(rest);
	});
	return () => text;
}

/**
 * Runs a tool to its end.
 *
 * @throws HostError ERR_TOOL_MISSING when it is not installed, ERR_TOOL_FAILED when it exits with a status that is not
 * accepted; the signal's reason when it was aborted
 * @example const { stdout } = await run("uname", ["-r"]);
 */
export async function run(tool: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
	const { cwd, input, onLine, signal, accept = [0] } = options;
	signal?.throwIfAborted();
	const path = findTool(tool);
	if (path === undefined) throw toolMissing(tool);
	const env: NodeJS.ProcessEnv = { ...process.env, ...options.env };
	env.PATH = searchPath(env);
	const child = spawn(path, args, {
		cwd,
		env,
		stdio: [input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
		detached: signal !== undefined,
	}) as unknown as ChildProcessByStdio<Writable | null, Readable, Readable>;
	const stdout = collect(child.stdout, onLine && ((line) => onLine(line, "stdout")));
	const stderr = collect(child.stderr, onLine && ((line) => onLine(line, "stderr")));
	/* A tool that stops reading (EPIPE) says why by its exit status. */
	child.stdin?.on("error", () => undefined);
	child.stdin?.end(input);
	const status = await finish(child, tool, signal);
	signal?.throwIfAborted();
	const result = { stdout: stdout(), stderr: stderr(), status };
	if (accept !== "any" && !accept.includes(status)) throw toolFailed(tool, args, result);
	return result;
}

function finish(
	child: ChildProcessByStdio<Writable | null, Readable, Readable>,
	tool: string,
	signal: AbortSignal | undefined,
): Promise<number> {
	return new Promise((resolve, reject) => {
		let killer: NodeJS.Timeout | undefined;
		const kill = (name: NodeJS.Signals) => {
			try {
				process.kill(-child.pid!, name);
			} catch {
				/* The group has ended by itself. */
			}
		};
		const abort = () => {
			kill("SIGTERM");
			killer = setTimeout(() => kill("SIGKILL"), 2000);
		};
		signal?.addEventListener("abort", abort, { once: true });
		const settle = () => {
			clearTimeout(killer);
			signal?.removeEventListener("abort", abort);
		};
		child.once("error", (error) => {
			settle();
			reject(
				errnoName(error) === "ENOENT" && child.pid === undefined
					? toolMissing(tool, error)
					: new HostError("ERR_TOOL_FAILED", `Cannot run ${tool}: ${explain(error)}`, { cause: error }),
			);
		});
		child.once("close", (code, name) => {
			settle();
			resolve(code ?? 128 + (SIGNALS[name ?? ""] ?? 0));
		});
	});
}

function toolFailed(tool: string, args: readonly string[], result: RunResult): HostError {
	const said = (result.stderr.trim() || result.stdout.trim()).split("\n").slice(-6).join("\n");
	const command = [tool, ...args].join(" ");
	const shown = command.length > 200 ? `${command.slice(0, 200)} ...` : command;
	return new HostError(
		"ERR_TOOL_FAILED",
		`Cannot run ${shown}: exit status ${result.status}${said === "" ? "" : `\n${said}`}`,
	);
}
