/*
 * Pods with the real supervisor and the real agent, and no VM: members with namespaces of their own in one machine.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterEach, beforeAll, expect, test } from "vitest";
import {
	execInContainer,
	killContainer,
	removeContainer,
	startContainer,
	stopContainer,
	waitForContainer,
} from "../../../src/container/life/commands.ts";
import { agentName, type Joins } from "../../../src/container/life/config.ts";
import { readEvents } from "../../../src/container/life/events.ts";
import { machineSize } from "../../../src/container/life/machine-size.ts";
import type { PrepareMember } from "../../../src/container/life/member-devices.ts";
import { ContainerStore, type StoredContainer } from "../../../src/container/life/store.ts";
import { superviseContainer } from "../../../src/container/life/supervisor.ts";
import { updateContainer } from "../../../src/container/life/update.ts";
import { podStatus, removePod, startWholePod, stopPod } from "../../../src/container/pod/commands.ts";
import { createPod, findPod, listPods } from "../../../src/container/pod/store.ts";
import { supervisePod } from "../../../src/container/pod/supervisor.ts";
import { stateDirectory } from "../../../src/host/directories.ts";
import { buildAgent } from "../../agent/native-agent.ts";
import { endsWhenRefused, FakeMachine, stopAgents } from "../fake-machine.ts";
import { containerConfig } from "../life/container-config.ts";
import { env } from "../life/started-container.ts";

const store = new ContainerStore();

beforeAll(buildAgent);
afterEach(async () => {
	for (const pod of listPods()) await removePod(pod, { force: true });
	for (const container of store.list()) await removeContainer(container, { force: true });
	await stopAgents();
});

/** Members whose devices are counted and not there. */
function countedMembers() {
	const held = new Set<string>();
	const prepare: PrepareMember = async ({ id }) => {
		held.add(id);
		return { steps: [["hostname", id.slice(0, 12)]], release: async () => void held.delete(id) };
	};
	return { held, prepare };
}

async function startedPod() {
	const pod = await createPod({ cpus: 1, memoryMiB: 64, labels: {} }, "web");
	const machine = new FakeMachine();
	const { held, prepare } = countedMembers();
	let ended: Promise<void> | undefined;
	await new Promise<void>((resolve, reject) => {
		ended = supervisePod(pod, {
			onReady: (error) => (error === undefined ? resolve() : reject(error)),
			boot: async () => ({ guest: endsWhenRefused(machine), members: () => prepare }),
		});
	});
	return { pod, machine, held, ended: ended! };
}

const member = (joins: Joins, args: string[], more: Parameters<typeof containerConfig>[1] = {}) =>
	store.create(containerConfig({ args, env }, { joins, ...more }));

async function run(container: StoredContainer): Promise<void> {
	await (await startContainer(container))?.running;
}

async function output(container: StoredContainer, ...args: string[]): Promise<string> {
	const session = await execInContainer(container, { args, env });
	return (await text(session.stdout)).trim();
}

test("a pod whose template is bad has a machine that boots", async () => {
	const pod = await createPod({ cpus: 1, memoryMiB: 64, labels: {} }, "web");
	const { prepare } = countedMembers();
	const bad = new FakeMachine();
	bad.start = () => bad.end({ reason: "triple-fault" });
	const made: boolean[] = [];
	const rejected: unknown[] = [];
	let ended: Promise<void> | undefined;
	await new Promise<void>((resolve, reject) => {
		ended = supervisePod(pod, {
			onReady: (error) => (error === undefined ? resolve() : reject(error)),
			boot: async (_pod, _signal, cold) => {
				made.push(cold);
				const members = () => prepare;
				if (cold) return { guest: endsWhenRefused(new FakeMachine()), members };
				const rejectTemplate = (why: unknown) => `Cannot use template: ${rejected.push(why)}`;
				return { guest: bad, members, rejectTemplate };
			},
		});
	});
	expect(made).toEqual([false, true]);
	expect(rejected).toHaveLength(1);
	expect(await stopPod(pod, 0)).toBe(true);
	await ended;
	await removePod(pod);
});

test("a pod's containers share its machine, and each has its processes, host name, end and state", async () => {
	const { pod, held, ended } = await startedPod();
	const joins = { kind: "pod", id: pod.id } as const;
	const [one, two] = [await member(joins, ["sleep", "100"]), await member(joins, ["sh", "-c", "sleep 101; :"])];
	await Promise.all([run(one), run(two)]);
	expect(held).toEqual(new Set([one.id, two.id]));
	expect(podStatus(pod)).toBe("Running");
	expect(await output(one, "hostname")).toBe(one.shortId);
	expect(await output(two, "hostname")).toBe(two.shortId);
	expect(await output(one, "readlink", "/proc/self/ns/net")).toBe(await output(two, "readlink", "/proc/self/ns/net"));
	expect(await output(one, "readlink", "/proc/self/ns/pid")).not.toBe(
		await output(two, "readlink", "/proc/self/ns/pid"),
	);
	await stopContainer(one, { timeoutMs: 0 });
	expect(one.state()).toMatchObject({ status: "exited", exitCode: 137 });
	expect(held).toEqual(new Set([two.id]));
	expect(two.state().status).toBe("running");
	expect(podStatus(pod)).toBe("Degraded");
	await run(one);
	await expect(removePod(pod)).rejects.toMatchObject({ code: "ERR_POD_RUNNING" });
	expect(await stopPod(pod, 0)).toBe(true);
	await ended;
	expect(held.size).toBe(0);
	expect([one.state().status, two.state().status, podStatus(pod)]).toEqual(["exited", "exited", "Exited"]);
	await removePod(findPod("web"));
	expect([...listPods(), ...store.list()]).toEqual([]);
});

test("a member ends with its own exit code, is started again by its policy, and goes with --rm", async () => {
	const { pod, held } = await startedPod();
	const joins = { kind: "pod", id: pod.id } as const;
	const failing = await member(joins, ["sh", "-c", "exit 4"], {
		restart: { name: "on-failure", maximumRetryCount: 1 },
	});
	await run(failing);
	expect(await waitForContainer(failing)).toBe(4);
	expect(failing.state()).toMatchObject({ status: "exited", exitCode: 4, restartCount: 1 });
	const missing = await member(joins, ["nowhere"], { autoRemove: true });
	await expect(run(missing)).rejects.toMatchObject({ exitStatus: 127 });
	await expect.poll(() => store.list().map(({ id }) => id)).toEqual([failing.id]);
	expect(held.size).toBe(0);
	/* Fifty one after another leave nothing behind. */
	const last = await member(joins, ["true"]);
	for (let i = 0; i < 50; i++) {
		await run(last);
		await waitForContainer(last);
		await expect.poll(() => last.isSupervised()).toBe(false);
	}
	expect(held.size).toBe(0);
}, 60_000);

test("a pod whose machine panics has ended, and its containers say why", async () => {
	const { pod, machine, ended } = await startedPod();
	const one = await member({ kind: "pod", id: pod.id }, ["sleep", "100"]);
	await run(one);
	machine.end({ reason: "panic", detail: "test" });
	await ended;
	expect(one.state()).toMatchObject({ status: "exited", error: { code: "ERR_GUEST_PANIC" } });
	expect(pod.state()).toMatchObject({ status: "exited", error: { code: "ERR_GUEST_PANIC" } });
});

test("a container joins another one's machine while that runs, and ends with it", async () => {
	const owner = await store.create(containerConfig({ args: ["sleep", "100"], env }));
	const joiner = await member({ kind: "container", id: owner.id }, ["sleep", "100"]);
	await expect(run(joiner)).rejects.toMatchObject({ code: "ERR_CONTAINER_NOT_RUNNING" });
	const { held, prepare } = countedMembers();
	let ended: Promise<void> | undefined;
	await new Promise<void>((resolve, reject) => {
		ended = superviseContainer(owner, {
			awaitAttach: false,
			onReady: (error) => (error === undefined ? resolve() : reject(error)),
			prepare,
			boot: async () => ({
				guest: endsWhenRefused(new FakeMachine()),
				machine: { pause: async () => undefined, resume: () => undefined },
				steps: [],
			}),
		});
	});
	await run(joiner);
	expect(agentName(joiner.config)).toBe(joiner.shortId);
	expect(await output(joiner, "hostname")).toBe(joiner.shortId);
	await killContainer(owner, 9);
	await ended;
	expect(joiner.state()).toMatchObject({ status: "exited", exitCode: 137 });
	expect(held.size).toBe(0);
});

test("startWholePod starts what has ended; names are one pod's each", async () => {
	const { pod } = await startedPod();
	const one = await member({ kind: "pod", id: pod.id }, ["sleep", "100"]);
	await startWholePod(pod);
	expect(one.state().status).toBe("running");
	await expect(createPod({ cpus: 1, memoryMiB: 64, labels: {} }, "web")).rejects.toMatchObject({
		code: "ERR_POD_NAME_IN_USE",
	});
	await expect(createPod({ cpus: 1, memoryMiB: 64, labels: {} }, "-")).rejects.toMatchObject({ code: "ERR_POD_NAME" });
	expect(() => findPod("nothing")).toThrow(expect.objectContaining({ code: "ERR_POD_NOT_FOUND" }));
});

test("a pod's events tell of itself and of its containers", async () => {
	rmSync(join(stateDirectory(), "events.json"), { force: true });
	const { pod, ended } = await startedPod();
	const one = await member({ kind: "pod", id: pod.id }, ["sleep", "100"]);
	await run(one);
	await stopPod(pod, 0);
	await ended;
	await removePod(findPod("web"));
	const told: string[] = [];
	for await (const { Type, Action, Actor } of readEvents({ sinceMs: 0, untilMs: Date.now() })) {
		expect([Actor.ID, Actor.Attributes.pod]).toContain(pod.id);
		told.push(`${Type} ${Action}`);
	}
	expect(told).toEqual([
		...["pod create", "pod start", "container create", "container start", "container kill", "container die"],
		...["container stop", "pod die", "container destroy", "pod remove"],
	]);
});

test("a member is limited by its control group, within what the pod's machine has", async () => {
	const pod = await createPod({ cpus: 2, memoryMiB: 256, labels: {} }, "web");
	const one = await member({ kind: "pod", id: pod.id }, ["true"]);
	expect(machineSize(one.config)).toEqual({ cpus: 2, memoryMiB: 256 });
	await updateContainer(store, one, { memoryMiB: 128, cpus: 1, pidsLimit: "50" });
	expect(one.reload().config).toMatchObject({ cpus: 1, memoryMiB: 128 });
	expect(one.config.system.cgroupLimits).toEqual({
		"cpu.max": "100000 100000",
		"memory.max": `${128 * 2 ** 20}`,
		"pids.max": "50",
	});
	await removePod(pod);
});
