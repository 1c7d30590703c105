/*
 * A container's machine as its supervisor shows it to others. The agent is the real one without a VM, and the machine is a
 * bare-metal guest that counts: the supervisor does not know that they have nothing to do with each other. Needs /dev/kvm.
 */
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { controlOf } from "../../../src/cli/ask-machine.ts";
import { removeContainer } from "../../../src/container/life/commands.ts";
import type { ContainerHost } from "../../../src/container/life/container-host.ts";
import { askSupervisor } from "../../../src/container/life/control.ts";
import { explainContainer } from "../../../src/container/life/look-inside.ts";
import { ContainerStore, type StoredContainer } from "../../../src/container/life/store.ts";
import { superviseContainer } from "../../../src/container/life/supervisor.ts";
import { askMachine } from "../../../src/machine/control.ts";
import { Machine } from "../../../src/machine/machine.ts";
import { buildAgent } from "../../agent/native-agent.ts";
import { COUNT, COUNTER, TinyKernels } from "../../guest/tiny-kernel.ts";
import { endsWhenRefused, FakeMachine, stopAgents } from "../fake-machine.ts";
import { containerConfig } from "./container-config.ts";
import { env } from "./started-container.ts";

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const store = new ContainerStore();
const kernels = new TinyKernels();
const directory = mkdtempSync(join(tmpdir(), "tsvmm-look-"));
afterAll(() => {
	kernels.remove();
	rmSync(directory, { recursive: true });
});
beforeAll(buildAgent);

const OWNER = { kind: "container", id: "a".repeat(64) } as const;
const LOOK = { do: "explain", seconds: 0 } as const;

let machine: Machine;
let container: StoredContainer;
/** Lets the start go on. */
let goOn: () => void;
let running: Promise<void>;
let ended: Promise<void>;

beforeEach(async () => {
	machine = await Machine.create({ kernel: kernels.write("", COUNT), memoryMiB: 64, rng: true });
	container = await store.create(containerConfig({ args: ["sleep", "1000"], env }));
	const guest = endsWhenRefused(new FakeMachine());
	const agent = new Promise<void>((resolve) => {
		goOn = resolve;
	}).then(() => guest.agent);
	const boot = async () => {
		machine.start();
		return {
			guest: { ...guest, start: () => guest.start(), stop: () => guest.stop(), consoleTail: () => "last words", agent },
			machine,
			steps: [],
		};
	};
	await new Promise<void>((listening) => {
		running = new Promise((resolve, reject) => {
			const onReady = (error?: unknown) => (error === undefined ? resolve() : reject(error as Error));
			ended = superviseContainer(container, { awaitAttach: false, onReady, onListening: listening, boot });
		});
	});
});
afterEach(async () => {
	goOn();
	await running;
	await removeContainer(container, { force: true });
	await ended;
	await machine.stop();
	await stopAgents();
});

const counts = async () => {
	const before = machine.memory.u32(COUNTER);
	await expect.poll(() => machine.memory.u32(COUNTER)).toBeGreaterThan(before);
};

test("explain says where the container's machine stands, in words and as data", async () => {
	goOn();
	await running;
	const { explanation } = await askMachine(container.paths.control, { do: "explain", seconds: 0.1 });
	expect(explanation).toMatchObject({
		look: { seconds: 0.1, state: "running" },
		machine: { cpus: 1, memoryMiB: 64 },
		state: { vcpus: [{ vcpu: 0, mp: "runnable" }] },
		output: ["last words"],
	});
	await counts();
	const member = { ...container, shortId: container.shortId, config: { ...container.config, joins: OWNER } };
	const asked = explainContainer({ host: {} as ContainerHost, stored: member as StoredContainer }, LOOK);
	await expect(asked).rejects.toMatchObject({
		code: "ERR_RUN_JOIN",
		message: `Cannot explain container ${container.shortId}: its machine is that of container aaaaaaaaaaaa`,
		hint: "Name container aaaaaaaaaaaa",
	});
});

describe("a dump of a container", () => {
	test("is of its machine, is its owner's alone, and the machine runs on", async () => {
		goOn();
		await running;
		const path = join(directory, "core");
		await askMachine(controlOf(container.shortId, "dump", true), { do: "dump", path, force: false });
		expect(statSync(path).mode & 0o777).toBe(0o600);
		expect(statSync(path).size).toBeGreaterThan(64 << 20);
		await counts();
		await expect(askSupervisor(container.paths, { do: "dump", path, force: false })).rejects.toMatchObject({
			code: "ERR_DUMP_EXISTS",
		});
	});
	test("can be taken while its agent does not answer yet", async () => {
		await expect.poll(() => machine.state).toBe("running");
		const path = join(directory, "early");
		await askMachine(controlOf(container.shortId, "dump", true), { do: "dump", path, force: false });
		expect(statSync(path).size).toBeGreaterThan(64 << 20);
		expect(() => controlOf(container.shortId, "take a snapshot of")).toThrow(
			expect.objectContaining({ code: "ERR_CONTAINER_NOT_RUNNING" }),
		);
	});
});
