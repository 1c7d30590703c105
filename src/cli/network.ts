/*
 * `tsvmm network`: networks on which containers reach each other by name, in Docker's columns.
 */
import { Command } from "commander";
import { connectContainer, disconnectContainer, isOn } from "../container/life/connect.ts";
import { ContainerStore, type StoredContainer } from "../container/life/store.ts";
import { askNetwork } from "../container/network/control.ts";
import { type Network, NetworkSockets, NetworkStore } from "../container/network/store.ts";
import { superviseNetwork } from "../container/network/supervisor.ts";
import { listPods, type StoredPod } from "../container/pod/store.ts";
import { readinessReporter } from "../host/detached-process.ts";
import { memberAddress } from "./container/network-flags.ts";
import { whereContainersAre } from "./container/where.ts";
import { each } from "./each.ts";
import { FORMAT_HELP, formatRows, formatValues, type Listing } from "./format.ts";

const LISTING: Listing = {
	headings: { ID: "NETWORK ID", CreatedAt: "CREATED AT" },
	table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
};

interface CreateFlags {
	subnet?: string;
	gateway?: string;
	internal: boolean;
	label: string[];
}

export function networkCommand(): Command {
	const network = new Command("network").description("networks on which containers reach each other by name");
	network
		.command("create")
		.description("make a network, and print its ID")
		.argument("<name>")
		.option("--subnet <address/bits>", "of its members; a free one when missing")
		.option("--gateway <address>", "its way out (default: the subnet's first address)")
		.option("--internal", "no way out: its members reach each other alone", false)
		.option("--label <name[=value]>", "set a label; may be repeated", append, [])
		.action((name: string, { label, ...options }: CreateFlags) =>
			whereContainersAre(async () => {
				const labels = Object.fromEntries(
					label.map((text) => [text.split("=", 1)[0]!, text.split("=").slice(1).join("=")]),
				);
				process.stdout.write(`${(await new NetworkStore().create(name, { ...options, labels })).id}\n`);
				return 0;
			}),
		);
	network
		.command("ls")
		.alias("list")
		.description("list networks")
		.option("-q, --quiet", "IDs alone", false)
		.option("-f, --filter <name=value>", "name, id or label; may be repeated", append, [])
		.option("--no-trunc", "whole IDs")
		.option("--format <format>", FORMAT_HELP)
		.action((flags: ListFlags) => whereContainersAre(async () => list(flags)));
	network
		.command("inspect")
		.description("print what is known of networks as JSON, members that run among it")
		.argument("<network...>")
		.option("-f, --format <format>", FORMAT_HELP)
		.action((names: string[], { format }: { format?: string }) =>
			whereContainersAre(async () => {
				const store = new NetworkStore();
				const found = await Promise.all(names.map((name) => describe(store.find(name))));
				process.stdout.write(formatValues(found, format));
				return 0;
			}),
		);
	network
		.command("rm")
		.alias("remove")
		.description("remove networks that no running container is on")
		.argument("<network...>")
		.option("-f, --force", "one that is not there is no error", false)
		.action((names: string[], { force }: { force: boolean }) => whereContainersAre(() => remove(names, force)));
	network
		.command("prune")
		.description("remove networks that no container or pod has")
		.option("-f, --force", "accepted for Docker's sake: nothing is asked", false)
		.action(() => whereContainersAre(prune));
	network
		.command("connect")
		.description("put a container on one more network, also while it runs")
		.argument("<network>")
		.argument("<container>")
		.option("--alias <name>", "another name of it on the network; may be repeated", append, [])
		.option("--ip <address>", "its address on the network")
		.action((name: string, container: string, { alias, ip }: { alias: string[]; ip?: string }) =>
			whereContainersAre(() => connect(name, container, { aliases: alias, ip })),
		);
	network
		.command("disconnect")
		.description("take a container off a network, also while it runs")
		.argument("<network>")
		.argument("<container>")
		.option("-f, --force", "accepted for Docker's sake", false)
		.action((name: string, container: string) => whereContainersAre(() => disconnect(name, container)));
	network
		.command("supervise", { hidden: true })
		.argument("<name>")
		.action(async (name: string) => {
			const onReady = readinessReporter("ERR_NETWORK_FAILED");
			try {
				const store = new NetworkStore();
				await superviseNetwork(store, store.find(name), onReady);
			} catch (error) {
				onReady(error);
				throw error;
			}
		});
	return network;
}

interface ListFlags {
	quiet: boolean;
	filter: string[];
	trunc: boolean;
	format?: string;
}

function list({ quiet, filter, trunc, format }: ListFlags): number {
	const networks = new NetworkStore().list().filter((network) => filter.every((text) => matches(network, text)));
	const rows = networks.map((network) => rowOf(network, trunc));
	process.stdout.write(quiet ? rows.map(({ ID }) => `${ID}\n`).join("") : formatRows(rows, LISTING, format));
	return 0;
}

function matches({ name, id, labels }: Network, text: string): boolean {
	const [key, ...rest] = text.split("=");
	const value = rest.join("=");
	if (key === "name") return name.includes(value);
	if (key === "id") return id.startsWith(value);
	const [label = "", ...wanted] = value.split("=");
	return key === "label" && labels[label] !== undefined && (wanted.length === 0 || labels[label] === wanted.join("="));
}

function rowOf({ id, name, created, internal, labels }: Network, trunc: boolean) {
	return {
		ID: trunc ? id.slice(0, 12) : id,
		Name: name,
		Driver: "switch",
		Scope: "local",
		CreatedAt: created,
		Internal: `${internal}`,
		Labels: Object.entries(labels)
			.map(([key, value]) => `${key}=${value}`)
			.join(","),
	};
}

/** As Docker's GET /networks/{id}. */
async function describe(network: Network): Promise<Record<string, unknown>> {
	const { id, name, created, subnet, gateway, internal, labels } = network;
	const members = (await askNetwork(new NetworkSockets(network), { do: "list" }))?.members ?? [];
	const bits = subnet.split("/")[1]!;
	return {
		Name: name,
		Id: id,
		Created: created,
		Scope: "local",
		Driver: "switch",
		EnableIPv6: false,
		IPAM: { Driver: "default", Config: [{ Subnet: subnet, Gateway: gateway }] },
		Internal: internal,
		Containers: Object.fromEntries(
			members.map((member) => [
				member.id,
				{ Name: member.names[0], MacAddress: member.mac, IPv4Address: `${member.address}/${bits}` },
			]),
		),
		Options: {},
		Labels: labels,
	};
}

async function remove(names: readonly string[], force: boolean): Promise<number> {
	const store = new NetworkStore();
	return await each(names, async (name) => {
		try {
			await store.remove(name, (network) => usersOf(network).filter(isRunning).map(nameOf));
			process.stdout.write(`${name}\n`);
		} catch (error) {
			const isMissing = error instanceof Error && "code" in error && error.code === "ERR_NETWORK_NOT_FOUND";
			if (!force || !isMissing) throw error;
		}
	});
}

async function prune(): Promise<number> {
	const unused = new NetworkStore().list().filter((network) => usersOf(network).length === 0);
	if (unused.length > 0) process.stdout.write("Deleted Networks:\n");
	return await remove(
		unused.map(({ name }) => name),
		true,
	);
}

async function connect(name: string, text: string, { aliases, ip }: { aliases: string[]; ip?: string | undefined }) {
	const network = new NetworkStore().find(name);
	const device = { kind: "network" as const, name: network.name, aliases };
	const attachment = { device, ...(ip === undefined ? {} : { address: memberAddress(network.name, ip) }) };
	await connectContainer(new ContainerStore().find(text), attachment);
	return 0;
}

async function disconnect(name: string, text: string): Promise<number> {
	const container = new ContainerStore().find(text);
	/* Also off a network that was removed meanwhile. */
	await disconnectContainer(container, isOn(container.config, name) ? name : new NetworkStore().find(name).name);
	return 0;
}

/** The containers and pods that have a network, running or not. */
function usersOf({ name }: Network): (StoredContainer | StoredPod)[] {
	return [...new ContainerStore().list(), ...listPods()].filter(({ config }) => isOn(config, name));
}

const isRunning = (user: StoredContainer | StoredPod) => user.isSupervised();
const nameOf = ({ config }: StoredContainer | StoredPod) => config.name;

function append(text: string, before: string[]): string[] {
	return [...before, text];
}
