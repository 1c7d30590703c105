/*
 * The order of test files: those that take minutes in the lab come first, the longest one before all, so that at the end no
 * worker waits for another's. vitest itself begins with the largest files as long as it does not know their times.
 */
import { basename } from "node:path";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Of test/lab. */
const LONGEST = [
	...["podman-life", "podman-runs", "bench", "podman-settings", "containerd", "podman-rootless", "shim", "workloads"],
	...["runtime-commands", "networks", "podman-systemd", "snapshot", "warm", "fs", "podman-table", "run", "cri"],
];

export class LongestFirst extends BaseSequencer {
	override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
		const sorted = await super.sort(files);
		const rank = ({ moduleId }: TestSpecification) => {
			const at = LONGEST.indexOf(basename(moduleId, ".test.ts"));
			return moduleId.includes("/test/lab/") && at >= 0 ? at : LONGEST.length;
		};
		return sorted.sort((a, b) => rank(a) - rank(b));
	}
}
