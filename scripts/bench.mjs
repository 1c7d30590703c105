/*
 * `npm run bench`: how fast tsvmm is, as ratios to C and to QEMU measured in the same run; docs/hot-path.md says what
 * each row means. About a minute.
 *
 *     node scripts/bench.mjs [--json]
 */
import { join } from "node:path";
import { setup } from "./setup.mjs";
import { execute, main, root, StepError, say } from "./steps.mjs";

async function bench(args) {
	await setup();
	say(
		"bench",
		"measuring on /dev/kvm (in the lab where this machine has none), then boots in the lab; keep the machine quiet",
	);
	const { status } = await execute(join(root, "node_modules/.bin/tsx"), ["test/bench/main.ts", ...args]);
	if (status !== 0) throw new StepError(`a benchmark has failed with status ${status}`);
}

await main("bench", () => bench(process.argv.slice(2)));
