/*
 * npm run bench: prints every benchmark as a ratio to its reference, measured in the same run. --json prints JSON.
 * --exits measures only the rows that need /dev/kvm, in the lab if this machine has none.
 */
import { existsSync } from "node:fs";
import { packageRoot } from "../../src/host/native.ts";
import { Lab } from "../../src/lab/lab.ts";
import { benchBoot } from "./boot.ts";
import { benchExits } from "./exit.ts";
import { benchPull } from "./pull.ts";
import { type BenchRow, table } from "./row.ts";

async function exitsInLab(): Promise<BenchRow[]> {
	/* Its own lab, which ends with the benchmark. The guests are built there, into guests/out. */
	const lab = await Lab.up({ name: "bench", shares: [{ path: packageRoot(), access: "rw" }] });
	try {
		const { status, stdout, stderr } = await lab.exec([
			process.execPath,
			"--import",
			"tsx",
			import.meta.filename,
			"--exits",
			"--json",
		]);
		if (status !== 0) throw new Error(`Cannot measure exits in the lab: exit status ${status}\n${stderr}`);
		return JSON.parse(stdout.toString());
	} finally {
		await lab.down();
	}
}

const rows = existsSync("/dev/kvm") ? await benchExits() : await exitsInLab();
if (!process.argv.includes("--exits")) rows.push(...(await benchBoot()), ...(await benchPull()));
process.stdout.write(process.argv.includes("--json") ? `${JSON.stringify(rows, null, "\t")}\n` : `${table(rows)}\n`);
