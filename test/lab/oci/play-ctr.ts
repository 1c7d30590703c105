/*
 * In the lab: plays ctr's command lines with a runtime of containerd's, and prints what each has answered, and what is left
 * at the end.
 *
 *     node play-ctr.mjs TABLE IMAGE SHIM RUNTIME...     TABLE: a JSON file with { lines }; IMAGE: an archive
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Containerd, leftovers } from "./containerd.ts";

const [table = "", archive = "", shim = "", ...runtimes] = process.argv.slice(2);
const { lines } = JSON.parse(readFileSync(table, "utf8")) as { lines: string[] };
const containerd = await Containerd.start(shim, archive);

async function play(runtime: string): Promise<object> {
	const rows = lines.map((line) => {
		const startMs = Date.now();
		const how = { env: containerd.env, encoding: "utf8", input: "", timeout: 240_000 } as const;
		const { status, stdout, stderr } = spawnSync("/bin/sh", ["-c", containerd.script(line, runtime)], how);
		return { line, status, stdout, stderr, ms: Date.now() - startMs };
	});
	/* A shim ends a moment after its last task. */
	for (let tries = 0; tries < 50 && leftovers("play-ctr").length > 0; tries++) await sleep(200);
	return { rows, left: leftovers("play-ctr") };
}

const answers: Record<string, object> = {};
for (const runtime of runtimes) answers[runtime] = await play(runtime);
await containerd.down();
process.stdout.write(JSON.stringify(answers));
