/*
 * The hooks of startContainer: programs of the container itself, which run in it before its own process.
 */
import { constants } from "node:os";
import type { AgentClient } from "../agent/client.ts";
import { readText } from "../agent/read-text.ts";
import { exitStatus } from "../agent/session.ts";
import { type HookRunner, hookFailure } from "./hooks.ts";

/** @param container as the agent knows it */
export function runInContainer(client: AgentClient, container: string): HookRunner {
	return async ({ path, args, env, timeout }, state) => {
		const session = await client.exec({ args: [path, ...args.slice(1)], env, container });
		session.stdin.on("error", () => undefined).end(state);
		const kill = () => session.signal(constants.signals.SIGKILL, true);
		const timer = timeout === undefined ? undefined : setTimeout(kill, timeout * 1000);
		try {
			const [exit, stdout, stderr] = await Promise.all([
				session.exit,
				readText(session.stdout),
				readText(session.stderr),
			]);
			const status = exitStatus(exit);
			if (status !== 0) throw hookFailure(`exit status ${status}`, stdout, stderr);
		} finally {
			clearTimeout(timer);
		}
	};
}
