/*
 * npm run bench: prints every benchmark as a ratio to its reference, measured in the same run. --json for a machine.
 */
import { benchBoot } from "./boot.ts";
import { benchExits } from "./exit.ts";
import { table } from "./row.ts";

const rows = [...(await benchExits()), ...(await benchBoot())];
process.stdout.write(process.argv.includes("--json") ? `${JSON.stringify(rows, null, "\t")}\n` : `${table(rows)}\n`);
