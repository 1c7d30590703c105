/*
 * Networks between containers: what they are. While one has members, its supervisor runs (supervisor.ts).
 *
 *     STATE/networks/NAME/network.json     name, ID, subnet
 *                         lock             held by its supervisor as long as that lives
 *                         supervisor.log   what it has said
 *     RUNTIME/n/ID12/control               the supervisor's socket
 *                    CID12                 the port of one member, until it has connected
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { HostError, UsageError } from "../../base/errors.ts";
import * as z from "../../base/schema.ts";
import { runtimeDirectory, stateDirectory } from "../../host/directories.ts";
import { isName, RecordDirectory } from "../record-directory.ts";
import { Subnet } from "./subnet.ts";

const NetworkRecord = z.object({
	name: z.string(),
	/** 64 hexadecimal digits. */
	id: z.string().check(z.regex(/^[0-9a-f]{64}$/)),
	/** ISO 8601. */
	created: z.string(),
	/** "10.89.0.0/24" */
	subnet: z.string(),
	gateway: z.string(),
	/** Its members reach each other and nothing else. */
	internal: z.boolean(),
	labels: z.record(z.string(), z.string()),
});
export type Network = z.infer<typeof NetworkRecord>;

export interface NetworkOptions {
	/** A free one when missing. */
	subnet?: string | undefined;
	/** The first address of the subnet when missing. */
	gateway?: string | undefined;
	internal?: boolean;
	labels?: Readonly<Record<string, string>>;
}

/** What `--network` takes that is no network of this store's. */
const RESERVED = ["none", "user", "host", "bridge", "default", "container", "tap"];

export class NetworkStore {
	readonly #records = new RecordDirectory({
		directory: join(stateDirectory(), "networks"),
		file: "network.json",
		schema: NetworkRecord,
		damagedCode: "ERR_NETWORK_STATE",
	});

	/**
	 * Makes a network.
	 *
	 * @throws UsageError ERR_NETWORK_NAME, ERR_NETWORK_SUBNET; HostError ERR_NETWORK_IN_USE when there is one of that name,
	 * ERR_NETWORK_SUBNET_TAKEN
	 */
	async create(
		name: string,
		{ subnet, gateway, internal = false, labels = {} }: NetworkOptions = {},
	): Promise<Network> {
		checkNetworkName(name);
		const wanted = subnet === undefined ? undefined : Subnet.parse(subnet);
		return await this.#records.alone(async () => {
			if (this.#records.read(name) !== undefined) {
				throw new HostError("ERR_NETWORK_IN_USE", `Cannot make network ${name}: there is one of that name`, {
					hint: `Remove that one first: tsvmm network rm ${name}`,
				});
			}
			const chosen = this.#subnet(name, wanted);
			const via = gateway ?? chosen.firstHost;
			if (!chosen.hasHost(via) || via === chosen.lastHost) {
				throw new UsageError("ERR_NETWORK_SUBNET", `Cannot use gateway "${via}" in subnet ${chosen.toString()}`, {
					hint: "Choose an address of the subnet that is neither its first nor one of its last two",
				});
			}
			const id = randomBytes(32).toString("hex");
			const record = { name, id, created: new Date().toISOString(), subnet: chosen.toString(), gateway: via };
			await this.#records.create(name, { ...record, internal, labels: { ...labels } });
			return this.find(name);
		});
	}

	/** By name, ID, or the beginning of an ID. @throws HostError ERR_NETWORK_NOT_FOUND */
	find(text: string): Network {
		const named = this.#records.read(text);
		if (named !== undefined) return named;
		const begun = /^[0-9a-f]{4,64}$/.test(text) ? this.list().filter(({ id }) => id.startsWith(text)) : [];
		if (begun.length === 1) return begun[0]!;
		throw new HostError("ERR_NETWORK_NOT_FOUND", `Cannot find network ${text}: no such network`, {
			hint: "See tsvmm network ls for their names",
		});
	}

	/** All networks, by name. */
	list(): Network[] {
		return this.#records.names().flatMap((name) => this.#records.read(name) ?? []);
	}

	/**
	 * Removes a network.
	 *
	 * @param users the containers that have it; it is asked while no network is made or removed
	 * @throws HostError ERR_NETWORK_NOT_FOUND, ERR_NETWORK_BUSY
	 */
	async remove(text: string, users: (network: Network) => readonly string[]): Promise<Network> {
		return await this.#records.alone(async () => {
			const network = this.find(text);
			const using = users(network);
			if (using.length > 0) {
				throw new HostError(
					"ERR_NETWORK_BUSY",
					`Cannot remove network ${network.name}: container ${using[0]} is on it`,
					{
						hint: `Stop the container first: tsvmm stop ${using[0]}`,
					},
				);
			}
			await this.#records.remove(network.name);
			return network;
		});
	}

	/** The network's own directory. */
	pathOf({ name }: Network): string {
		return this.#records.pathOf(name);
	}

	#subnet(name: string, wanted: Subnet | undefined): Subnet {
		const others = this.list();
		if (wanted === undefined) {
			const free = Subnet.choose(others.map(({ subnet }) => Subnet.parse(subnet)));
			if (free !== undefined) return free;
			throw new HostError("ERR_NETWORK_SUBNET_TAKEN", `Cannot make network ${name}: no subnet of tsvmm's is free`, {
				hint: "Choose one with --subnet",
			});
		}
		const holder = others.find(({ subnet }) => Subnet.parse(subnet).overlaps(wanted));
		if (holder === undefined) return wanted;
		throw new HostError(
			"ERR_NETWORK_SUBNET_TAKEN",
			`Cannot make network ${name}: its subnet overlaps that of network ${holder.name}, ${holder.subnet}`,
		);
	}
}

/** The sockets of a network that has members. */
export class NetworkSockets {
	readonly directory: string;
	readonly control: string;

	constructor({ id }: Pick<Network, "id">) {
		this.directory = join(runtimeDirectory(), "n", id.slice(0, 12));
		this.control = join(this.directory, "control");
	}

	/** @param container its ID */
	portOf(container: string): string {
		return join(this.directory, container.slice(0, 12));
	}
}

/** @throws UsageError ERR_NETWORK_NAME */
function checkNetworkName(name: string): void {
	if (isName(name) && !RESERVED.includes(name)) return;
	throw new UsageError("ERR_NETWORK_NAME", `Cannot name a network "${name}"`, {
		hint: RESERVED.includes(name)
			? "Choose another name: --network has a meaning for this one"
			: "Use a letter or digit, then letters, digits, dots, dashes and underscores",
	});
}
