/* A container's configuration for tests that have no image. */
import type { ContainerConfig } from "../../../src/container/life/config.ts";
import type { ContainerStore } from "../../../src/container/life/store.ts";

type Wanted = Parameters<ContainerStore["create"]>[0];

/** One that runs `process`, with whatever else the test wants. */
export function containerConfig(process: Partial<ContainerConfig["process"]> = {}, more: Partial<Wanted> = {}): Wanted {
	return {
		image: { name: "test", digest: `sha256:${"0".repeat(64)}`, id: `sha256:${"1".repeat(64)}` },
		process: {
			args: ["true"],
			env: [],
			cwd: "/",
			user: "",
			tty: false,
			init: false,
			openStdin: false,
			stdinOnce: false,
			...process,
		},
		privileges: { privileged: true, capAdd: [], capDrop: [], noNewPrivileges: false, groupAdd: [], ulimits: [] },
		system: { readOnlyRoot: false, tmpfs: [], sysctls: {}, extraHosts: [], cgroupLimits: {} },
		mounts: [],
		hostname: "test",
		cpus: 1,
		memoryMiB: 64,
		writableBytes: 2 ** 30,
		restart: { name: "no", maximumRetryCount: 0 },
		stopSignal: 15,
		stopTimeoutMs: 10_000,
		autoRemove: false,
		labels: {},
		annotations: {},
		logDriver: "json-file",
		exposedPorts: [],
		...more,
	};
}
