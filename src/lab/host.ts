/*
 * Tells whether this machine can run guests itself. When it cannot, the same command line runs once more in the lab.
 * `boot` and `run` begin with:
 *
 *     if (needsLab()) return await reexecInLab(process.argv.slice(2), { quiet });
 */
import { readdirSync, realpathSync, statSync } from "node:fs";
import { join } from "node:path";
import type { PortForward } from "../backends/passt-ports.ts";
import { UsageError } from "../base/errors.ts";
import { packageRoot } from "../host/native.ts";
import { missingForLinux } from "../host/virtualization.ts";
import type { Share } from "./shares.ts";

/**
 * True when guests must run in the lab. $TSVMM_HOST decides when it is "direct" or "lab". False in the lab.
 *
 * @throws UsageError ERR_HOST_CHOICE when $TSVMM_HOST is anything else
 */
export function needsLab(): boolean {
	const choice = process.env.TSVMM_HOST || "auto";
	if (choice === "direct" || process.env.TSVMM_LAB === "1") return false;
	if (choice === "lab") return true;
	if (choice !== "auto") {
		throw new UsageError("ERR_HOST_CHOICE", `Cannot use TSVMM_HOST=${choice}: direct, lab or auto are possible`);
	}
	return missingForLinux() !== undefined;
}

export interface ReexecOptions {
	quiet?: boolean;
	/** Ports that `argv` publishes in the lab. They are published on this machine, too. */
	ports?: readonly PortForward[];
	/** Files and directories that `argv` names. */
	shares?: readonly Share[];
}

/**
 * Runs this tsvmm with `argv` in the lab, as if it were this process: with the same standard streams, terminal, working
 * directory, environment and signals. Brings the lab up when it is down.
 *
 * @param argv the words after "tsvmm"
 * @returns its exit status
 */
export async function reexecInLab(argv: readonly string[], options: ReexecOptions = {}): Promise<number> {
	const { quiet = false, ports = [], shares = [] } = options;
	if (!quiet) {
		const why = missingForLinux() ?? "TSVMM_HOST is lab";
		process.stderr.write(`tsvmm: ${why}; using the lab (QEMU emulating a KVM host; slow)\n`);
	}
	const [{ exec }, { upWithProgress }, { publishPorts }] = await Promise.all([
		import("./exec.ts"),
		import("./progress.ts"),
		import("./published-ports.ts"),
	]);
	const up = await upWithProgress({ shares }, quiet);
	let unpublish: (() => void) | undefined;
	try {
		unpublish = await publishPorts(up.lab, ports, ownProgram());
		const tty = process.stdin.isTTY === true && process.stdout.isTTY === true;
		return await exec(up.lab, [...ownProgram(), ...argv], { tty, stdin: true });
	} finally {
		unpublish?.();
		up.close();
	}
}

/**
 * The command that starts this tsvmm: node, its options, "--" and our entry file. Without the "--" node would take some
 * of our options for its own (--env-file). A checkout that runs from its sources uses its bundle in the lab unless a
 * source is newer, because compiling takes long there.
 */
function ownProgram(): string[] {
	const entry = realpathSync(process.argv[1] ?? join(packageRoot(), "dist/tsvmm.js"));
	const bundle = join(packageRoot(), "dist/tsvmm.js");
	if (entry.endsWith(".ts") && isFresh(bundle)) return [process.execPath, "--", bundle];
	return [process.execPath, ...process.execArgv, "--", entry];
}

function isFresh(bundle: string): boolean {
	const built = statSync(bundle, { throwIfNoEntry: false })?.mtimeMs ?? 0;
	const source = join(packageRoot(), "src");
	return readdirSync(source, { recursive: true }).every((name) => {
		const times = statSync(join(source, String(name)), { throwIfNoEntry: false });
		return times === undefined || times.isDirectory() || times.mtimeMs <= built;
	});
}
