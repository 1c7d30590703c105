/*
 * The networks of a machine: each is an interface of its own, eth0, eth1 and so on. Those of `tsvmm network` are joined
 * before the machine is made, which has to connect then. While it runs, others come and go:
 *
 *     connect: join -> addDevice -> agent: bind, interface, address, up, gateway -> /etc/resolv.conf
 *     disconnect: agent: unbind -> removeDevice -> the route of another one -> /etc/resolv.conf
 */
import { userNetwork } from "../../backends/passt.ts";
import { explain, ignore } from "../../base/errors.ts";
import { log } from "../../base/log.ts";
import { MacAddress } from "../../base/mac.ts";
import { openNetDevice } from "../../machine/devices/net.ts";
import { CONTAINER_NAME } from "../container.ts";
import { type Endpoint, joinNetwork } from "../network/join.ts";
import { addresses, type ContainerNetwork } from "../run.ts";
import type { RunningMachine } from "../running-machine.ts";
import { addressSteps, type GuestNetwork, gatewaySteps, resolverSteps, type SetupStep } from "../setup-steps.ts";
import type { Attachment, ContainerConfig } from "./config.ts";
import type { MemberMachine } from "./member-devices.ts";

/** Whose machine it is: a container, or a pod. */
export type NetworkOwner = Pick<ContainerConfig, "id" | "name" | "hostname" | "network">;

/** What an interface is connected to. */
interface Connection {
	config: ContainerNetwork;
	/** On a network of `tsvmm network`. */
	endpoint?: Endpoint | undefined;
	/** The host's ports lead here. */
	publishes: boolean;
}

/** An interface of the machine: ethINDEX, on the device netINDEX. */
interface Interface extends Connection {
	index: number;
}

/** A machine that runs. */
interface Plug {
	machine: MemberMachine;
	running: RunningMachine;
}

export class MachineNetworks {
	readonly #owner: NetworkOwner;
	readonly #interfaces: Interface[] = [];
	/** The one whose gateway has the default route. */
	#route: Interface | undefined;
	#plug: Plug | undefined;

	/** Joins all networks of a machine that is about to be made. @throws what joinNetwork throws */
	static async join(owner: NetworkOwner, signal: AbortSignal): Promise<MachineNetworks> {
		const networks = new MachineNetworks(owner);
		for (const [index, attachment] of (owner.network?.attachments ?? []).entries()) {
			networks.#interfaces.push({ ...(await networks.#join(attachment, signal)), index });
		}
		networks.#route = networks.#interfaces.find(hasGateway);
		return networks;
	}

	private constructor(owner: NetworkOwner) {
		this.#owner = owner;
	}

	/** For the machine, in order; undefined when it has and gets none. */
	get configs(): ContainerNetwork[] | undefined {
		if (this.#owner.network === undefined) return undefined;
		return this.#withNameServers(this.#interfaces.map(({ config }) => config));
	}

	/** As the guest sees them. */
	get guests(): GuestNetwork[] {
		return (this.configs ?? []).map(addresses);
	}

	get endpoints(): Endpoint[] {
		return this.#interfaces.flatMap(({ endpoint }) => endpoint ?? []);
	}

	/** Whether the host's ports lead to the machine. */
	get publishes(): boolean {
		return this.#interfaces.some(({ publishes }) => publishes);
	}

	/** The machine runs now, with all its interfaces. */
	started(machine: MemberMachine, running: RunningMachine): void {
		this.#plug = { machine, running };
	}

	/**
	 * Puts the machine on one more network, while it runs.
	 *
	 * @throws UsageError ERR_TOO_MANY_DEVICES when no slot is left; what joinNetwork and the agent say. Nothing is left then
	 */
	async connect(attachment: Attachment, signal: AbortSignal): Promise<void> {
		const { machine } = this.#plug!;
		const connection = await this.#join(attachment, signal);
		const index = this.#freeIndex();
		const id = `net${index}`;
		const name = `eth${index}`;
		const device = await openNetDevice(connection.config.device, index, { enter: machine.enter, signal });
		try {
			machine.addDevice(id, device);
		} catch (error) {
			await device.close();
			throw error;
		}
		try {
			const routes = this.#route === undefined ? gatewaySteps(connection.config.gateway) : [];
			await this.#setup([
				["bind", machine.deviceAddress(id).toString(16)],
				["interface", `${connection.config.device.mac}\t${name}`],
				...addressSteps(name, addresses(connection.config)),
				...routes,
			]);
			const added = { ...connection, index };
			this.#interfaces.push(added);
			if (routes.length > 0) this.#route = added;
		} catch (error) {
			await this.#unplug(index);
			throw error;
		}
		await this.#tellResolver();
	}

	/** Takes it off a network of `tsvmm network`, while it runs. */
	async disconnect(network: string): Promise<void> {
		const at = this.#interfaces.findIndex(({ endpoint }) => endpoint?.network === network);
		const gone = this.#interfaces[at];
		if (gone === undefined) return;
		await this.#unplug(gone.index);
		this.#interfaces.splice(at, 1);
		if (gone === this.#route) {
			this.#route = this.#interfaces.find(hasGateway);
			await this.#setup(gatewaySteps(this.#route === undefined ? undefined : addresses(this.#route.config).gateway));
		}
		await this.#tellResolver();
	}

	/** The device goes also when the guest does not let go of it: the network must have its address back. */
	async #unplug(index: number): Promise<void> {
		const { machine } = this.#plug!;
		const id = `net${index}`;
		try {
			await this.#setup([["unbind", machine.deviceAddress(id).toString(16)]]);
		} catch (error) {
			log("warn", `${id} is taken from a guest that does not let go of it: ${explain(error)}`);
		}
		/* By force: its driver has left it already. After the machine's end it is gone. */
		await machine.removeDevice(id, { force: true }).catch(ignore);
	}

	async #setup(steps: readonly SetupStep[], container?: string): Promise<void> {
		const { running } = this.#plug!;
		if (steps.length > 0) await running.orEarly(running.client.setup(steps, container));
	}

	/** In a root that is read-only /etc/resolv.conf stays as it is. */
	async #tellResolver(): Promise<void> {
		const steps = resolverSteps(this.guests).map(([, fields]): SetupStep => ["file?", fields]);
		await this.#setup(steps, CONTAINER_NAME);
	}

	#freeIndex(): number {
		const taken = new Set(this.#interfaces.map(({ index }) => index));
		let index = 0;
		while (taken.has(index)) index++;
		return index;
	}

	async #join(attachment: Attachment, signal: AbortSignal): Promise<Connection> {
		const { id, name, hostname } = this.#owner;
		const { device, ...addresses } = attachment;
		/* One interface has the ports, the first that can. */
		const may = !this.publishes;
		const ports = may ? [...(this.#owner.network?.ports ?? [])] : [];
		if (device.kind === "network") {
			const names = [name, ...device.aliases, hostname, id.slice(0, 12)];
			const { address } = addresses;
			const joined = await joinNetwork({ network: device.name, ports, id, names, address }, signal);
			return { config: joined.network, endpoint: joined.endpoint, publishes: may && joined.endpoint.gateway !== "" };
		}
		if (device.kind === "user") return { config: { device: { ...device, ports }, ...addresses }, publishes: may };
		if (device.kind === "tap") return { config: { device, ...addresses }, publishes: false };
		/* The same at each start, and another one than that of other containers on the bridge. */
		const { mac = `${MacAddress.derive(`${id} ${device.name}`)}` } = device;
		return { config: { device: { ...device, mac }, ...addresses }, publishes: false };
	}

	/**
	 * Name servers of networks know the names of members, and pass other questions on, so none else is asked beside them.
	 * Those of internal networks pass nothing on, and come after. What the user has said goes before all.
	 */
	#withNameServers(configs: ContainerNetwork[]): ContainerNetwork[] {
		const { dns, dnsSearch = [], dnsOptions = [] } = this.#owner.network ?? {};
		const joined = this.#interfaces.filter(({ endpoint }) => endpoint !== undefined);
		const passing = joined.filter(hasGateway);
		const others = configs.filter(({ device }) => device.kind === "user").map(() => userNetwork.dns);
		const own = [
			...[...passing, ...joined.filter((one) => !hasGateway(one))].flatMap(({ config }) => config.dns ?? []),
			...(passing.length === 0 ? others : []),
		];
		const chosen = dns ?? (joined.length > 0 ? own : undefined);
		const [first, ...rest] = configs;
		if (first === undefined) return [];
		return [
			{ ...first, ...(chosen === undefined ? {} : { dns: chosen }), dnsSearch, dnsOptions },
			...rest.map((config) => (chosen === undefined ? config : { ...config, dns: [] })),
		];
	}
}

function hasGateway({ config }: Connection): boolean {
	return addresses(config).gateway !== undefined;
}
