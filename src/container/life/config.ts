/*
 * What a container is, as `create` has decided it and config.json keeps it. `start` needs nothing else but the image.
 */
import * as z from "zod";
import type { PortForward } from "../../backends/passt-ports.ts";
import type { NetConfig } from "../../machine/devices/net.ts";
import { CONTAINER_NAME } from "../container.ts";
import type { GuestNetwork } from "../setup-steps.ts";

const Port = z.object({
	hostAddress: z.string().optional(),
	hostPort: z.number(),
	guestPort: z.number(),
	protocol: z.enum(["tcp", "udp"]),
});

export const Network = z
	.object({
		device: z.discriminatedUnion("kind", [
			z.object({ kind: z.literal("tap"), name: z.string(), mac: z.string().optional() }),
			z.object({
				kind: z.literal("user"),
				mac: z.string().optional(),
				ports: z.array(Port).optional(),
				hostLoopback: z.boolean().optional(),
			}),
			z.object({
				kind: z.literal("network"),
				name: z.string(),
				/** What others on it may call the container, besides its name and the beginning of its ID. */
				aliases: z.array(z.string()),
				ports: z.array(Port),
			}),
		]),
		/** On a tap with the prefix length; on a network the address that it asks for. */
		address: z.string().optional(),
		gateway: z.string().optional(),
		dns: z.array(z.string()).optional(),
		dnsSearch: z.array(z.string()).optional(),
		dnsOptions: z.array(z.string()).optional(),
		mtu: z.number().optional(),
	})
	.transform((network) => network as ConfiguredNetwork);

/** A network of `tsvmm network`. */
export interface NamedNetwork {
	kind: "network";
	name: string;
	aliases: string[];
	ports: PortForward[];
}

/** As ContainerNetwork, before a network of a name is joined. */
export type ConfiguredNetwork = { device: NetConfig | NamedNetwork } & Partial<GuestNetwork>;

/** A command that tells whether the container is well. */
const HealthCheck = z.object({
	args: z.array(z.string()),
	intervalMs: z.number(),
	timeoutMs: z.number(),
	/** Failures in a row that make it unhealthy. */
	retries: z.number(),
	/** So long after the start failures do not count. */
	startPeriodMs: z.number(),
});
export type HealthCheck = z.infer<typeof HealthCheck>;

/** Whose machine a container joins: a pod's, or another container's. */
const Joins = z.object({ kind: z.enum(["pod", "container"]), id: z.string() });
export type Joins = z.infer<typeof Joins>;

const Limit = z.union([z.number(), z.literal("unlimited")]);

const Privileges = z.object({
	privileged: z.boolean(),
	capAdd: z.array(z.string()),
	capDrop: z.array(z.string()),
	noNewPrivileges: z.boolean(),
	groupAdd: z.array(z.string()),
	ulimits: z.array(z.object({ name: z.string(), soft: Limit, hard: Limit })),
});

const Mount = z.object({
	type: z.enum(["bind", "volume"]),
	source: z.string(),
	target: z.string(),
	readOnly: z.boolean(),
	volume: z.string().optional(),
	copy: z.boolean().optional(),
});

const Device = z.object({ source: z.string(), target: z.string(), readOnly: z.boolean() });

const System = z.object({
	readOnlyRoot: z.boolean(),
	tmpfs: z.array(z.object({ target: z.string(), options: z.string().optional() })),
	shmSizeBytes: z.number().optional(),
	sysctls: z.record(z.string(), z.string()),
	extraHosts: z.array(z.object({ name: z.string(), address: z.string() })),
	cgroupLimits: z.record(z.string(), z.string()),
});

/** When a container that has ended is started again, as Docker has it. */
const RestartPolicy = z.object({
	name: z.enum(["no", "always", "unless-stopped", "on-failure"]),
	/** Of on-failure; 0: no limit. */
	maximumRetryCount: z.number().int().nonnegative(),
});
export type RestartPolicy = z.infer<typeof RestartPolicy>;

export const ContainerConfig = z.object({
	/** Of this file's format. */
	version: z.literal(1),
	/** 64 hexadecimal digits. */
	id: z.string().regex(/^[0-9a-f]{64}$/),
	name: z.string(),
	/** ISO 8601. */
	created: z.string(),
	image: z.object({
		/** As the user wrote it. */
		name: z.string(),
		/** Of the manifest: what the store finds it by. */
		digest: z.string(),
		/** Docker's IMAGE ID. */
		id: z.string(),
	}),
	process: z.object({
		args: z.array(z.string()),
		env: z.array(z.string()),
		cwd: z.string(),
		user: z.string(),
		tty: z.boolean(),
		/** Docker's --init: the agent is process 1 of its namespace, not the process. */
		init: z.boolean(),
		/** Standard input is a pipe to those who attach; else /dev/null. */
		openStdin: z.boolean(),
		/** The pipe ends when the first who attached goes. */
		stdinOnce: z.boolean(),
	}),
	/** What its processes may. */
	privileges: Privileges,
	/** What they find. */
	system: System,
	/** Directories and files of the host that it has. */
	mounts: z.array(Mount),
	/** Block devices and files of the host that are disks in it. */
	devices: z.array(Device).optional(),
	hostname: z.string(),
	cpus: z.number(),
	memoryMiB: z.number(),
	network: Network.optional(),
	/** The machine that it joins, and with it the network; a machine of its own when missing. */
	joins: Joins.optional(),
	/** A kernel of `tsvmm kernel ls` or a file; the default one when missing. */
	kernel: z.string().optional(),
	cmdline: z.string().optional(),
	consoleFile: z.string().optional(),
	/** Bytes that it may write to its file system; the file on the host is as large as what was written. */
	writableBytes: z.number(),
	restart: RestartPolicy,
	health: HealthCheck.optional(),
	/** Number; the image's or SIGTERM. */
	stopSignal: z.number(),
	stopTimeoutMs: z.number(),
	/** Remove it once it has ended. */
	autoRemove: z.boolean(),
	labels: z.record(z.string(), z.string()),
	annotations: z.record(z.string(), z.string()),
	logDriver: z.enum(["json-file", "none"]),
	/** "80/tcp", of the image. */
	exposedPorts: z.array(z.string()),
});
export type ContainerConfig = z.infer<typeof ContainerConfig>;

/** The ports of the host that lead to the container while it runs. */
export function publishedPorts({ network }: Pick<ContainerConfig, "network">): readonly PortForward[] {
	const device = network?.device;
	return device?.kind === "user" || device?.kind === "network" ? (device.ports ?? []) : [];
}

/** What `--network` was: a kind, the name of a network, or whose machine it joins. */
export function networkName({ network, joins }: Pick<ContainerConfig, "network" | "joins">): string {
	if (joins !== undefined) return `${joins.kind}:${joins.id}`;
	if (network === undefined) return "none";
	return network.device.kind === "network" ? network.device.name : network.device.kind;
}

/** What the agent calls the container, and its control group. */
export function agentName({ id, joins }: Pick<ContainerConfig, "id" | "joins">): string {
	return joins === undefined ? CONTAINER_NAME : id.slice(0, 12);
}
