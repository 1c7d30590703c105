/*
 * npm run bench: prints every benchmark as a ratio to its reference, measured in the same run. --json for a machine.
 */
import { benchExits } from "./exit.ts";
import { table } from "./row.ts";

const rows = await benchExits();
process.stdout.write(process.argv.includes("--json") ? `${JSON.stringify(rows, null, "\t")}\n` : `${table(rows)}\n`);
