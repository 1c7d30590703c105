/*
 * A machine in a worker that is terminated while the guest runs: threads, VM, RAM and descriptors end with it.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { afterAll, expect, test } from "vitest";
import { packageRoot } from "../../src/host/native.ts";
import { Machine } from "../../src/machine/machine.ts";
import { vcpuThreads } from "./threads.ts";
import { SPIN, TinyKernels } from "./tiny-kernel.ts";

const kernels = new TinyKernels();
afterAll(() => kernels.remove());

const PROGRAM = `
	import { parentPort, workerData } from "node:worker_threads";
	const { Machine } = await import(workerData.library);
	globalThis.machine = await Machine.create({ kernel: workerData.kernel, cpus: 2, memoryMiB: 64, rng: true });
	machine.start();
	parentPort.postMessage("started");`;

async function terminated(kernel: string): Promise<void> {
	const url = new URL(`data:text/javascript,${encodeURIComponent(PROGRAM)}`);
	const library = pathToFileURL(join(packageRoot(), "dist/lib/index.js")).href;
	const worker = new Worker(url, { workerData: { library, kernel }, execArgv: [] });
	await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
	await worker.terminate();
}

/** Descriptors, mappings of vCPUs, threads of vCPUs. */
function held(): number[] {
	return [
		readdirSync("/proc/self/fd").length,
		readFileSync("/proc/self/maps", "latin1").split("kvm-vcpu").length - 1,
		vcpuThreads(),
	];
}

test("Machine ends with its worker and leaves nothing of it", async () => {
	const kernel = kernels.write("x", SPIN);
	/* Loads the native helper here, too, as a program with machines in several workers does. */
	await (await Machine.create({ kernel, memoryMiB: 64 })).stop();
	await terminated(kernel);
	const [, mappings, threads] = held();
	expect([mappings, threads]).toEqual([0, 0]);
	const before = held();
	await terminated(kernel);
	await expect.poll(held, { timeout: 20_000 }).toEqual(before);
});
