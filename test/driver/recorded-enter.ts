/*
 * An Enter like a machine's. It catches errors and records the names that entered.
 */
import type { Enter } from "../../src/base/enter.ts";

export class RecordedEnter {
	readonly names: string[] = [];
	readonly failures: string[] = [];
	readonly enter: Enter = (name, run) => {
		this.names.push(name);
		try {
			run();
		} catch (error) {
			this.failures.push(`${name}: ${(error as Error).message}`);
		}
	};
}
