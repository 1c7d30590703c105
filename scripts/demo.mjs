/*
 * `npm run demo`: from a fresh clone to the output of a container in a microVM. Sets up what is missing, then runs
 * what a user would type:
 *
 *     tsvmm run busybox uname -a
 */
import { join } from "node:path";
import { setup } from "./setup.mjs";
import { execute, main, must, root, StepError, say, step } from "./steps.mjs";

const tsvmm = join(root, "dist/tsvmm.js");
const PAYLOAD = ["sh", "-c", "echo Hello from a container in a microVM; uname -a; nproc; free -m"];

async function demo() {
	await setup(["native helper", "guest agent", "lab", "images and kernels", "network"]);
	await step("demo", async () => {
		const said = await must(process.execPath, [tsvmm, "kernel", "fetch"], { quiet: true });
		return said.trim().includes("\n") ? "fetched a guest kernel" : undefined;
	});
	await step("demo", async () => {
		await must(process.execPath, [join("scripts", "build-images.mjs"), "busybox"], { quiet: true });
		return "the busybox image is ready";
	});
	const args = ["run", "--rm", "--timings", "busybox", ...PAYLOAD];
	say("demo", `tsvmm ${args.map((word) => (/[^\w-]/.test(word) ? `'${word}'` : word)).join(" ")}`);
	const start = performance.now();
	const { status } = await execute(process.execPath, [tsvmm, ...args]);
	if (status !== 0) throw new StepError(`tsvmm run has ended with status ${status}; tsvmm doctor may know why`);
	say("demo", `done in ${((performance.now() - start) / 1000).toFixed(1)} s`);
	say("demo", "next: node dist/tsvmm.js --help, or node dist/tsvmm.js learn to write a monitor of your own");
}

await main("demo", demo);
