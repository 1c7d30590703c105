/*
 * The guest agent's binary, which is the lab's init once its modules are loaded. Built by scripts/build-agent.mjs.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { run } from "../host/command.ts";
import { packageRoot } from "../host/native.ts";

/** Path of the binary, built first when its sources are here and newer. */
export async function buildAgent(): Promise<string> {
	const script = join(packageRoot(), "scripts/build-agent.mjs");
	if (existsSync(script)) await run(process.execPath, [script]);
	return join(packageRoot(), "guests/out/agent");
}
