/*
 * The size of machines, by config.json.
 */
import { expect, test } from "vitest";
import { Config } from "../../src/oci/bundle.ts";
import { machineSize } from "../../src/oci/resources.ts";

const MIB = 1 << 20;

function memoryOf(annotations: Record<string, string>, limit?: number): number {
	const linux = limit === undefined ? {} : { linux: { resources: { memory: { limit } } } };
	return machineSize(Config.parse({ annotations, ...linux })).memoryMiB;
}

test("machineSize follows a container's limit, or else its annotation", () => {
	expect(memoryOf({})).toBe(512);
	expect(memoryOf({ "dev.tsvmm.memory-mib": "1024" })).toBe(1024);
	expect(memoryOf({ "dev.tsvmm.memory-mib": "1024" }, 256 * MIB)).toBe(352);
	expect(memoryOf({}, 8 * MIB)).toBe(192);
	for (const wrong of ["", "12", "1e9x", "-1"]) expect(memoryOf({ "dev.tsvmm.memory-mib": wrong })).toBe(512);
});

test("machineSize of a pod's sandbox follows the sum that its kubelet tells, but for an annotation", () => {
	const pod = (memory: number, more = {}) =>
		memoryOf({
			"io.kubernetes.cri.container-type": "sandbox",
			"io.kubernetes.cri.sandbox-memory": `${memory}`,
			...more,
		});
	expect(pod(0)).toBe(512);
	expect(pod(64 * MIB)).toBe(512);
	expect(pod(1024 * MIB)).toBe(1120);
	expect(pod(1024 * MIB, { "dev.tsvmm.memory-mib": "2048" })).toBe(2048);
	expect(pod(Number.NaN)).toBe(512);
});
