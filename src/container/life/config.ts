/*
 * What a container is, as `create` has decided it and config.json keeps it. `start` needs nothing else but the image.
 */

import type { PortForward } from "../../backends/passt-ports.ts";
import * as z from "../../base/schema.ts";
import { CONTAINER_NAME } from "../container.ts";
import { Observed } from "./observed.ts";

const Port = z.pipe(
	z.object({
		hostAddress: z.optional(z.string()),
		hostPort: z.number(),
		guestPort: z.number(),
		protocol: z.enum(["tcp", "udp"]),
	}),
	z.transform((port) => port as PortForward),
);

const Interface = z.discriminatedUnion("kind", [
	z.object({
		kind: z.enum(["tap", "bridge"]),
		name: z.string(),
		mac: z.optional(z.string()),
		offload: z.optional(z.boolean()),
	}),
	z.object({
		kind: z.literal("user"),
		mac: z.optional(z.string()),
		hostLoopback: z.optional(z.boolean()),
	}),
	z.object({
		/** A network of `tsvmm network`. */
		kind: z.literal("network"),
		name: z.string(),
		/** What others on it may call the container, besides its name and the beginning of its ID. */
		aliases: z.array(z.string()),
	}),
]);

const Attachment = z.pipe(
	z.object({
		device: Interface,
		/** On a tap or a bridge with the prefix length; on a network the address that it asks for. */
		address: z.optional(z.string()),
		gateway: z.optional(z.string()),
	}),
	z.transform((attachment) => attachment as Attachment),
);

/** One interface: what it is connected to, and its addresses. */
export interface Attachment {
	device: z.infer<typeof Interface>;
	address?: string;
	gateway?: string;
}

export const Networking = z.object({
	/** In the order of the interfaces: eth0, eth1. None when it was taken off all networks. */
	attachments: z.array(Attachment),
	/** Ports of the host that lead to it, by the first network that has a way out. */
	ports: z.array(Port),
	/** In place of the networks' own name servers. */
	dns: z.optional(z.array(z.string())),
	dnsSearch: z.optional(z.array(z.string())),
	dnsOptions: z.optional(z.array(z.string())),
});
export type Networking = z.infer<typeof Networking>;

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
	volume: z.optional(z.string()),
	copy: z.optional(z.boolean()),
});

const Device = z.object({ source: z.string(), target: z.string(), readOnly: z.boolean() });

const System = z.object({
	readOnlyRoot: z.boolean(),
	tmpfs: z.array(z.object({ target: z.string(), options: z.optional(z.string()) })),
	shmSizeBytes: z.optional(z.number()),
	sysctls: z.record(z.string(), z.string()),
	extraHosts: z.array(z.object({ name: z.string(), address: z.string() })),
	cgroupLimits: z.record(z.string(), z.string()),
});

/** When a container that has ended is started again, as Docker has it. */
const RestartPolicy = z.object({
	name: z.enum(["no", "always", "unless-stopped", "on-failure"]),
	/** Of on-failure; 0: no limit. */
	maximumRetryCount: z.int().check(z.minimum(0)),
});
export type RestartPolicy = z.infer<typeof RestartPolicy>;

export const ContainerConfig = z.object({
	/** Of this file's format. */
	version: z.literal(1),
	/** 64 hexadecimal digits. */
	id: z.string().check(z.regex(/^[0-9a-f]{64}$/)),
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
	devices: z.optional(z.array(Device)),
	hostname: z.string(),
	cpus: z.number(),
	memoryMiB: z.number(),
	/** Loopback alone when missing. */
	network: z.optional(Networking),
	/** The machine that it joins, and with it the network; a machine of its own when missing. */
	joins: z.optional(Joins),
	/** A kernel of `tsvmm kernel ls` or a file; the default one when missing. */
	kernel: z.optional(z.string()),
	cmdline: z.optional(z.string()),
	consoleFile: z.optional(z.string()),
	/** Its machine boots, whatever templates there are, and none is made of it. */
	cold: z.optional(z.boolean()),
	/** Who looks on at its machine, and what goes wrong in it on purpose. */
	observed: z.optional(Observed),
	/** Bytes that it may write to its file system; the file on the host is as large as what was written. */
	writableBytes: z.number(),
	restart: RestartPolicy,
	health: z.optional(HealthCheck),
	/** Number; the image's or SIGTERM. */
	stopSignal: z.number(),
	stopTimeoutMs: z.number(),
	/** Remove it once it has ended. */
	autoRemove: z.boolean(),
	labels: z.record(z.string(), z.string()),
	annotations: z.record(z.string(), z.string()),
	logDriver: z.enum(["json-file", "none"]),
	/** Of --log-opt. */
	logOptions: z.optional(z.record(z.string(), z.string())),
	/** "80/tcp", of the image. */
	exposedPorts: z.array(z.string()),
});
export type ContainerConfig = z.infer<typeof ContainerConfig>;

/** The ports of the host that are to lead to the container while it runs. */
export function publishedPorts({ network }: Pick<ContainerConfig, "network">): readonly PortForward[] {
	return network?.ports ?? [];
}

/** What `--network` was, the first of several: a kind, the name of a network, or whose machine it joins. */
export function networkName(config: Pick<ContainerConfig, "network" | "joins">): string {
	return networkNames(config)[0] ?? "none";
}

/** All of them; "none" for loopback alone. */
export function networkNames({ network, joins }: Pick<ContainerConfig, "network" | "joins">): string[] {
	if (joins !== undefined) return [`${joins.kind}:${joins.id}`];
	return network === undefined ? ["none"] : network.attachments.map(attachmentName);
}

/** What a container calls one of its networks. */
export function attachmentName({ device }: Attachment): string {
	return device.kind === "network" ? device.name : device.kind;
}

/** What the agent calls the container, and its control group. */
export function agentName({ id, joins }: Pick<ContainerConfig, "id" | "joins">): string {
	return joins === undefined ? CONTAINER_NAME : id.slice(0, 12);
}
