/*
 * The helper in a worker that is terminated: Node unloads what nobody else has loaded, also what libuv has yet to call.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import { native, packageRoot } from "../../src/host/native.ts";

test("a worker with a run loop and a watch can be terminated", () => {
	expect(native().abiVersion).toBeGreaterThan(0);
	const addon = join(packageRoot(), "prebuilds", `linux-${process.arch}`, "tsvmm.glibc.node");
	const inside = `
		const { parentPort } = require("node:worker_threads");
		const native = require(${JSON.stringify(addon)});
		globalThis.kept = [native.loopCreate(2, () => {}), native.pollCreate(native.eventfdCreate(), 1, true, () => {})];
		parentPort.postMessage("made");
		setInterval(() => {}, 1000);`;
	const outside = `
		const { Worker } = require("node:worker_threads");
		(async () => {
			for (let i = 0; i < 3; i++) {
				const worker = new Worker(${JSON.stringify(inside)}, { eval: true });
				await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
				await worker.terminate();
			}
			console.log("done");
		})();`;
	const { status, signal, stdout } = spawnSync(process.execPath, ["-e", outside], { encoding: "utf8" });
	expect([stdout, status, signal]).toEqual(["done\n", 0, null]);
});
