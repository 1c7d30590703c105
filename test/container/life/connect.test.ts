/*
 * Containers that come onto networks and leave them: what is kept of one that does not run, and how the interfaces of a
 * machine come and go, with a network in this process and a machine that only notes what it is told.
 */
import { once } from "node:events";
import { connect } from "node:net";
import { afterEach, expect, test } from "vitest";
import { enterDirectly } from "../../../src/base/enter.ts";
import type { Attachment } from "../../../src/container/life/config.ts";
import { connectContainer, disconnectContainer } from "../../../src/container/life/connect.ts";
import { MachineNetworks } from "../../../src/container/life/machine-networks.ts";
import type { MemberMachine } from "../../../src/container/life/member-devices.ts";
import { ContainerStore } from "../../../src/container/life/store.ts";
import { askNetwork } from "../../../src/container/network/control.ts";
import { NetworkSockets, NetworkStore } from "../../../src/container/network/store.ts";
import { superviseNetwork } from "../../../src/container/network/supervisor.ts";
import type { RunningMachine } from "../../../src/container/running-machine.ts";
import type { SetupStep } from "../../../src/container/setup-steps.ts";
import type { VirtioDevice } from "../../../src/virtio/device.ts";
import { containerConfig } from "./container-config.ts";

const store = new ContainerStore();
const networks = new NetworkStore();
const ports = [{ hostPort: 8080, guestPort: 80, protocol: "tcp" as const }];
const on = (name: string, address?: string) => ({
	device: { kind: "network" as const, name, aliases: [] },
	...(address === undefined ? {} : { address }),
});

afterEach(async () => {
	for (const container of store.list()) await container.erase();
	for (const { name } of networks.list()) await networks.remove(name, () => []);
});

test("connectContainer adds a network to one that does not run, disconnectContainer takes it off; its ports stay", async () => {
	const network = { attachments: [on("red")], ports };
	const container = await store.create(containerConfig({}, { network }));
	await connectContainer(container, on("green", "10.1.1.9"));
	expect(container.reload().config.network).toEqual({
		attachments: [on("red"), on("green", "10.1.1.9")],
		ports,
	});
	await expect(connectContainer(container, on("red"))).rejects.toMatchObject({ code: "ERR_NETWORK_CONNECTED" });
	await disconnectContainer(container, "red");
	await disconnectContainer(container, "green");
	expect(container.reload().config.network).toEqual({ attachments: [], ports });
	await expect(disconnectContainer(container, "green")).rejects.toMatchObject({ code: "ERR_NETWORK_NOT_CONNECTED" });
});

test("connectContainer refuses a container whose network is another's", async () => {
	const joins = { kind: "pod" as const, id: "a".repeat(64) };
	const container = await store.create(containerConfig({}, { joins }));
	await expect(connectContainer(container, on("red"))).rejects.toMatchObject({ code: "ERR_NETWORK_JOINED" });
	await expect(disconnectContainer(container, "red")).rejects.toMatchObject({ code: "ERR_NETWORK_JOINED" });
});

/** A network; one without a way out needs no passt. */
async function running(name: string, subnet: string, internal = true) {
	const network = await networks.create(name, { subnet, internal });
	let ended!: Promise<void>;
	await new Promise<void>((resolve, reject) => {
		ended = superviseNetwork(networks, network, resolve);
		ended.catch(reject);
	});
	const members = async () => (await askNetwork(new NetworkSockets(network), { do: "list" }))?.members?.length;
	/** Connects as the owner's machine does, and goes. */
	const leave = async () => {
		const socket = connect(new NetworkSockets(network).portOf("b".repeat(64)));
		await once(socket, "connect");
		socket.destroy();
		await ended;
	};
	return { ended, members, leave };
}

/** @param refuses a step that the agent does not carry out */
function fakeMachine(refuses?: string) {
	const devices = new Map<string, VirtioDevice>();
	const done: string[] = [];
	const machine: MemberMachine = {
		enter: enterDirectly,
		addDevice: (id, device) => void devices.set(id, device),
		deviceAddress: () => 0xd0003000,
		removeDevice: async (id) => {
			await devices.get(id)?.close();
			devices.delete(id);
		},
	};
	const setup = async (steps: readonly SetupStep[]) => {
		for (const [step, fields] of steps) {
			if (step === refuses) throw new Error("the guest does not want to");
			done.push(`${step} ${fields}`);
		}
	};
	const client = { setup } as unknown as RunningMachine["client"];
	const machineThatRuns = { client, orEarly: <T>(work: Promise<T>) => work } as RunningMachine;
	return { devices, done, machine, running: machineThatRuns };
}

const owner = (attachments: Attachment[]) => ({
	id: "b".repeat(64),
	name: "box",
	hostname: "box",
	network: { attachments, ports },
});

test("MachineNetworks plugs an interface in and out, and tells the guest its address and name servers", async () => {
	const net = await running("red", "10.78.1.0/24");
	const { signal } = new AbortController();
	const interfaces = await MachineNetworks.join(owner([]), signal);
	const { devices, done, ...plug } = fakeMachine();
	interfaces.started(plug.machine, plug.running);
	await interfaces.connect(on("red", "10.78.1.9"), signal);
	expect(done).toEqual([
		"bind d0003000",
		"interface 52:54:0a:4e:01:09\teth0",
		"mtu? eth0\t65520",
		"address eth0\t10.78.1.9/24",
		"up eth0",
		"file? /etc/resolv.conf\t644\tnameserver 10.78.1.254\n",
	]);
	expect([...devices.keys()]).toEqual(["net0"]);
	expect(interfaces.endpoints).toMatchObject([{ network: "red", address: "10.78.1.9", gateway: "" }]);
	expect(interfaces.publishes).toBe(false);
	done.length = 0;
	await interfaces.disconnect("red");
	expect(done).toEqual(["unbind d0003000"]);
	expect(devices.size + interfaces.endpoints.length).toBe(0);
	await expect.poll(net.members).toBe(0);
	await net.ended;
});

test("MachineNetworks takes an interface away from a guest that does not let go of it", async () => {
	const net = await running("red", "10.78.7.0/24");
	const { signal } = new AbortController();
	const interfaces = await MachineNetworks.join(owner([]), signal);
	const { devices, ...plug } = fakeMachine("unbind");
	interfaces.started(plug.machine, plug.running);
	await interfaces.connect(on("red"), signal);
	await interfaces.disconnect("red");
	expect(devices.size + interfaces.endpoints.length).toBe(0);
	await net.ended;
});

test("MachineNetworks gives the route to the next network, and asks the name servers that pass questions on first", async () => {
	const inside = await running("inside", "10.78.3.0/24");
	const [red, green] = [await running("red", "10.78.4.0/24", false), await running("green", "10.78.5.0/24", false)];
	const { signal } = new AbortController();
	const interfaces = await MachineNetworks.join(owner([on("inside"), on("red"), on("green")]), signal);
	const [first, ...others] = interfaces.guests;
	expect(first!.dns).toEqual(["10.78.4.254", "10.78.5.254", "10.78.3.254"]);
	expect(others.map(({ dns }) => dns)).toEqual([[], []]);
	const uplinks = interfaces.configs!.map(({ device }) =>
		device.kind === "stream" ? device.uplink?.ports : undefined,
	);
	expect(uplinks).toEqual([undefined, ports, []]);
	const { done, ...plug } = fakeMachine();
	interfaces.started(plug.machine, plug.running);
	expect(interfaces.publishes).toBe(true);
	await interfaces.disconnect("red");
	expect(interfaces.publishes).toBe(false);
	expect(done).toEqual([
		"unbind d0003000",
		"gateway 10.78.5.1",
		"file? /etc/resolv.conf\t644\tnameserver 10.78.5.254\nnameserver 10.78.3.254\n",
	]);
	for (const { leave } of [inside, red, green]) await leave();
});

test("MachineNetworks asks the user network's name server when the others pass nothing on, and only the user's when it is given", async () => {
	const inside = await running("inside", "10.78.6.0/24");
	const { signal } = new AbortController();
	const attachments = [on("inside"), { device: { kind: "user" as const } }];
	const plain = await MachineNetworks.join(owner(attachments), signal);
	expect(plain.guests.flatMap(({ dns }) => dns)).toEqual(["10.78.6.254", "10.0.2.3"]);
	const network = { attachments, ports, dns: ["10.9.9.9"], dnsSearch: ["example"] };
	const chosen = await MachineNetworks.join({ ...owner([]), network }, signal);
	expect(chosen.guests).toMatchObject([{ dns: ["10.9.9.9"], dnsSearch: ["example"] }, { dns: [] }]);
	await inside.leave();
});

test.each(["bind", "interface", "up"])("an interface whose %s the guest refuses leaves nothing", async (step) => {
	const net = await running("red", "10.78.2.0/24");
	const { signal } = new AbortController();
	const interfaces = await MachineNetworks.join(owner([]), signal);
	const { devices, ...plug } = fakeMachine(step);
	interfaces.started(plug.machine, plug.running);
	await expect(interfaces.connect(on("red"), signal)).rejects.toThrow("the guest does not want to");
	expect(devices.size + interfaces.endpoints.length).toBe(0);
	await expect.poll(net.members).toBe(0);
	await net.ended;
});
