/*
 * The members of a network, each with an address and a port of the switch. A member applies, gets an address and a socket
 * of its own, connects to it once, and is a member until that connection ends, however it ends.
 *
 *     join -> waits at its socket -> connected: SocketPort -> its end: address and names are free again
 */
import { rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import type { EthernetSwitch } from "../../backends/switch/ethernet-switch.ts";
import { addressBytes } from "../../backends/switch/packets.ts";
import { SocketPort } from "../../backends/switch/socket-port.ts";
import { HostError } from "../../base/errors.ts";
import { MacAddress } from "../../base/mac.ts";
import type { Applicant, Membership } from "./control.ts";
import type { Network, NetworkSockets } from "./store.ts";
import { Subnet } from "./subnet.ts";

/** How long an applicant may take to connect: its machine is made meanwhile. */
const CONNECT_TIMEOUT_MS = 60_000;

interface Member extends Membership {
	applicant: Applicant;
	/** Ends its port or its wait, and removes its socket. */
	end: () => void;
}

export class NetworkMembers {
	readonly #network: Network;
	readonly #sockets: NetworkSockets;
	readonly #switch: EthernetSwitch;
	readonly #onChange: () => void;
	/** By the container's ID. */
	readonly #members = new Map<string, Member>();

	/** @param onChange called when one has come or gone */
	constructor(
		network: Network,
		sockets: NetworkSockets,
		{ wire, onChange }: { wire: EthernetSwitch; onChange: () => void },
	) {
		this.#network = network;
		this.#sockets = sockets;
		this.#switch = wire;
		this.#onChange = onChange;
	}

	get count(): number {
		return this.#members.size;
	}

	list(): (Applicant & Membership)[] {
		return [...this.#members.values()].map(({ applicant, address, mac }) => ({ ...applicant, address, mac }));
	}

	/**
	 * Takes a container in, in place of its earlier self.
	 *
	 * @throws HostError ERR_NETWORK_ADDRESS for an address that it cannot have, ERR_NETWORK_FULL
	 */
	async join(applicant: Applicant): Promise<Membership> {
		this.#members.get(applicant.id)?.end();
		const address = this.#freeAddress(applicant.address);
		/* As QEMU's addresses begin; the rest makes it one of a kind on this network. */
		const mac = `52:54:${addressBytes(address)
			.toString("hex")
			.replace(/..(?=.)/g, "$&:")}`;
		const path = this.#sockets.portOf(applicant.id);
		const { end, listening } = this.#waitAt(path, applicant, mac);
		/* Before anything is waited for: nobody else gets the address meanwhile. */
		this.#members.set(applicant.id, { applicant, address, mac, end });
		this.#onChange();
		await listening.catch((error: unknown) => {
			end();
			throw error;
		});
		return { address, mac };
	}

	/** The addresses of those that have a name, in lower case; undefined when nobody has it. */
	lookUp(name: string): string[] | undefined {
		const found = this.list().filter(({ names }) => names.some((one) => one.toLowerCase() === name));
		return found.length === 0 ? undefined : found.map(({ address }) => address);
	}

	/** As lookUp, for another network's member: only one that is a member here, too, gets an answer. */
	lookUpFor(asker: string, name: string): string[] | undefined {
		return this.#members.has(asker) ? this.lookUp(name) : undefined;
	}

	/** The member with an Ethernet address. */
	withMac(mac: Buffer): (Applicant & Membership) | undefined {
		const text = mac.toString("hex").replace(/..(?=.)/g, "$&:");
		return this.list().find((member) => member.mac === text);
	}

	/** Cuts all members off. */
	close(): void {
		for (const { end } of [...this.#members.values()]) end();
	}

	#freeAddress(wanted: string | undefined): string {
		const subnet = Subnet.parse(this.#network.subnet);
		const taken = new Set([this.#network.gateway, subnet.lastHost, ...this.list().map(({ address }) => address)]);
		if (wanted !== undefined) {
			if (subnet.hasHost(wanted) && !taken.has(wanted)) return wanted;
			const why = taken.has(wanted) ? "it is taken" : `it is not in ${this.#network.subnet}`;
			throw new HostError(
				"ERR_NETWORK_ADDRESS",
				`Cannot have address ${wanted} on network ${this.#network.name}: ${why}`,
			);
		}
		for (const address of subnet.hosts()) if (!taken.has(address)) return address;
		throw new HostError(
			"ERR_NETWORK_FULL",
			`Cannot join network ${this.#network.name}: all addresses of ${this.#network.subnet} are taken`,
		);
	}

	/** Listens for the member's one connection. @returns what ends its membership, and when it listens */
	#waitAt(path: string, { id, names }: Applicant, mac: string): { end: () => void; listening: Promise<void> } {
		let port: SocketPort | undefined;
		let server: Server | undefined;
		const stopWaiting = () => {
			clearTimeout(timer);
			server?.close();
			server = undefined;
			rmSync(path, { force: true });
		};
		const end = () => {
			stopWaiting();
			port?.close();
			if (this.#members.get(id)?.end === end) {
				this.#members.delete(id);
				this.#onChange();
			}
		};
		const timer = setTimeout(end, CONNECT_TIMEOUT_MS);
		rmSync(path, { force: true });
		const waiting = createServer((socket) => {
			if (port !== undefined) {
				socket.destroy();
				return;
			}
			const name = names[0] ?? id;
			port = new SocketPort(this.#switch, socket, { name, mac: MacAddress.parse(mac).bytes, onEnd: end });
			stopWaiting();
		});
		server = waiting;
		const listening = new Promise<void>((resolve, reject) => {
			waiting.once("error", reject);
			waiting.listen(path, () => resolve());
		});
		return { end, listening };
	}
}
