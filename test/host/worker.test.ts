/*
 * The helper in a worker that is terminated: none of its JavaScript runs any more, so Node and the helper give back what
 * it has. Node unloads what nobody else has loaded, also what libuv has yet to call.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import { native, packageRoot } from "../../src/host/native.ts";

const ADDON = join(packageRoot(), "prebuilds", `linux-${process.arch}`, "tsvmm.glibc.node");

/** Runs `outside`, which makes workers of the code `inside`, in a process of its own; what it prints. */
function run(inside: string, outside: string): string {
	expect(native().abiVersion).toBeGreaterThan(0);
	const script = `
		const { Worker } = require("node:worker_threads");
		const terminated = async (code) => {
			const worker = new Worker(code, { eval: true });
			await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
			await worker.terminate();
		};
		const inside = ${JSON.stringify(`
			const { parentPort } = require("node:worker_threads");
			const native = require(${JSON.stringify(ADDON)});
			${inside}
			parentPort.postMessage("made");
			setInterval(() => {}, 1000);`)};
		(async () => { ${outside} })();`;
	const { status, signal, stdout, stderr } = spawnSync(process.execPath, ["-e", script], { encoding: "utf8" });
	expect([stderr, status, signal]).toEqual(["", 0, null]);
	return stdout;
}

test("a worker with a run loop and a watch can be terminated", () => {
	const inside = `
		globalThis.kept = [native.loopCreate(2, () => {}), native.pollCreate(native.eventfdCreate(), 1, true, () => {})];`;
	const outside = `for (let i = 0; i < 3; i++) await terminated(inside); console.log("done");`;
	expect(run(inside, outside)).toBe("done\n");
});

test("a worker that is terminated gives back RAM and descriptors, and closes none that it has given back itself", () => {
	const inside = `
		const ram = [true, false].map((shared) => native.ramMap(1 << 26, Float64Array.of(0, 1 << 26), shared, -1));
		for (const { windows } of ram) new Uint8Array(windows[0]).fill(1);
		const events = Array.from({ length: 8 }, () => native.eventfdCreate());
		native.pollCreate(events[0], 1, true, () => {});
		native.ioCreate(8, false, 0, () => {});
		native.ioCreate(8, true, 0, () => {});
		const dup = require("node:fs").openSync("/dev/null");
		native.fdKeep(dup);
		native.fdForget(dup);
		native.fdClose(events[7]);
		globalThis.kept = [ram, events];`;
	const outside = `
		const { readdirSync, readFileSync } = require("node:fs");
		const held = () => {
			const maps = readFileSync("/proc/self/smaps", "latin1").split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
			const large = maps.filter((map) => Number(/^Rss: *(\\d+) kB/m.exec(map)?.[1]) >= 1 << 16).length;
			return [readdirSync("/proc/self/fd").length, large].join();
		};
		await terminated("require('node:worker_threads').parentPort.postMessage(0); setInterval(() => {}, 1000);");
		const before = held();
		for (let i = 0; i < 3; i++) await terminated(inside);
		const patience = Date.now() + 10_000;
		while (held() !== before && Date.now() < patience) await new Promise((resolve) => setTimeout(resolve, 20));
		console.log(held() === before ? "nothing left" : before + " became " + held());`;
	expect(run(inside, outside)).toBe("nothing left\n");
});
