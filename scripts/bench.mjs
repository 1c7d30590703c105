/*
 * `npm run bench`: how fast tsvmm is, as ratios to C, to QEMU and to plain tools, measured in the same run. What the
 * rows mean: docs/performance.md, and docs/hot-path.md for the first ones.
 *
 *     node scripts/bench.mjs [--exits] [--block] [--scale] [--boot] [--disk] [--fs] [--containers] [--net] [--vsock] [--growth] [--pull] [--small] [--json]
 */
import { join } from "node:path";
import { setup } from "./setup.mjs";
import { execute, main, root, StepError, say } from "./steps.mjs";

async function bench(args) {
	await setup();
	say(
		"bench",
		"measuring on /dev/kvm (in the lab where this machine has none), then in the lab; keep the machine quiet",
	);
	const { status } = await execute(join(root, "node_modules/.bin/tsx"), ["test/bench/main.ts", ...args]);
	if (status !== 0) throw new StepError(`a benchmark has failed with status ${status}`);
}

await main("bench", () => bench(process.argv.slice(2)));
