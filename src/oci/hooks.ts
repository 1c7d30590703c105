/*
 * Hooks (OCI runtime-spec config.md, "POSIX-platform Hooks"): programs that run at fixed points of a container's life, with
 * its state on their standard input. They are the host's, but for those of startContainer (container-hooks.ts).
 */
import { spawn } from "node:child_process";
import { text } from "node:stream/consumers";
import { explain } from "../base/errors.ts";
import type { Config, HookKind } from "./bundle.ts";
import { OciError } from "./runtime-error.ts";
import { type ContainerRecord, OCI_VERSION } from "./state.ts";

export type Hook = NonNullable<Config["hooks"]>[HookKind][number];
/** Runs one hook. @throws Error with how it has ended and its output, when it fails */
export type HookRunner = (hook: Hook, state: string) => Promise<void>;

/**
 * Runs the hooks of a kind in order.
 *
 * @throws OciError ERR_OCI_HOOK at the first that fails
 */
export async function runHooks(
	{ hooks }: Config,
	kind: HookKind,
	record: ContainerRecord,
	run: HookRunner = runOnHost,
): Promise<void> {
	for (const [i, hook] of (hooks?.[kind] ?? []).entries()) {
		const { id, status, process, bundle, annotations } = record;
		const state = JSON.stringify({ ociVersion: OCI_VERSION, id, status, pid: process.pid, bundle, annotations });
		try {
			await run(hook, state);
		} catch (cause) {
			throw new OciError("ERR_OCI_HOOK", `error running hook #${i}: ${explain(cause)}`, { cause });
		}
	}
}

async function runOnHost({ path, args, env, timeout }: Hook, state: string): Promise<void> {
	const [argv0 = path, ...words] = args;
	const child = spawn(path, words, {
		argv0,
		env: Object.fromEntries(env.map((variable) => splitVariable(variable))),
		stdio: ["pipe", "pipe", "pipe"],
		cwd: "/",
		...(timeout === undefined ? {} : { timeout: timeout * 1000, killSignal: "SIGKILL" as const }),
	});
	child.stdin.on("error", () => undefined);
	child.stdin.end(state);
	const output = Promise.all([text(child.stdout), text(child.stderr)]);
	const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
		child.once("error", reject);
		child.once("close", (status, killer) => resolve([status, killer]));
	});
	if (code === 0) return;
	const [stdout, stderr] = await output;
	throw hookFailure(code === null ? `signal: ${signal}` : `exit status ${code}`, stdout, stderr);
}

/** In the words of runc. */
export function hookFailure(how: string, stdout: string, stderr: string): Error {
	return new Error(`${how}, stdout: ${stdout}, stderr: ${stderr}`);
}

function splitVariable(variable: string): [string, string] {
	const at = variable.indexOf("=");
	return at < 0 ? [variable, ""] : [variable.slice(0, at), variable.slice(at + 1)];
}
