/*
 * `runContainer`: an image's root file system, a kernel and what the user asked for -> a microVM that runs one process.
 * The machine gets the image as read-only disk "root", vsock for the agent, and the network if one is wanted.
 */
import type { Duplex } from "node:stream";
import { VSOCK_AGENT_PORT } from "../agent/protocol.ts";
import { FileConsole, type HostConsole } from "../backends/console.ts";
import { userNetwork } from "../backends/passt.ts";
import type { UnixVsock } from "../backends/unix-vsock.ts";
import type { GuestKernel } from "../kernel/store.ts";
import type { MachineConfig, NetConfig } from "../machine/config.ts";
import { Machine } from "../machine/machine.ts";
import type { RootfsImage } from "./image/rootfs.ts";
import { initramfs } from "./initramfs.ts";
import { type ContainerResult, type ContainerStdio, type GuestMachine, runOnMachine } from "./lifecycle.ts";
import type { ProcessSpec } from "./process-spec.ts";
import { type GuestNetwork, setupSteps } from "./setup-steps.ts";

/** The network as the user describes it: the device, and for a tap the guest's addresses. */
export type ContainerNetwork = { device: NetConfig } & Partial<GuestNetwork>;

export interface ContainerOptions {
	rootfs: RootfsImage;
	kernel: Pick<GuestKernel, "name" | "vmlinux" | "modulesFolder">;
	process: ProcessSpec;
	hostname: string;
	cpus: number;
	memoryMiB: number;
	network?: ContainerNetwork;
	/** Where the guest's console is written to as well. */
	consoleFile?: string;
	/** More kernel parameters. */
	cmdline?: string;
	stdio: ContainerStdio;
}

/** Serial number of the disk with the image. */
const ROOT_DISK = "root";
const TAIL_LINES = 15;
const TAIL_CHARACTERS = 8192;

/**
 * Runs a container in a microVM of its own.
 *
 * @throws ExecError (125, 126, 127), GuestError, and what Machine.create and initramfs throw
 */
export async function runContainer(options: ContainerOptions): Promise<ContainerResult> {
	const { rootfs, hostname, network, process: spec } = options;
	const initrd = await initramfs({ kernel: options.kernel, fstype: rootfs.fstype, network: network !== undefined });
	const guestNetwork = network === undefined ? undefined : addresses(network);
	const steps = setupSteps({
		rootDisk: ROOT_DISK,
		fstype: rootfs.fstype,
		hostname,
		...(guestNetwork === undefined ? {} : { network: guestNetwork }),
	});
	const machine = await createMachine(machineConfig(options, initrd), options.consoleFile);
	return runOnMachine(machine, steps, spec, options.stdio);
}

/** The machine of a container, as configuration. */
export function machineConfig(options: ContainerOptions, initrd: string): MachineConfig {
	const { kernel, rootfs, cpus, memoryMiB, network, cmdline } = options;
	return {
		kernel: kernel.vmlinux,
		initrd,
		cmdline: ["quiet", ...(cmdline === undefined ? [] : [cmdline])].join(" "),
		cpus,
		memoryMiB,
		disks: [{ path: rootfs.path, readOnly: true, id: ROOT_DISK }],
		nets: network === undefined ? [] : [network.device],
		vsock: { cid: 3 },
		rng: true,
		console: { kind: "file", path: options.consoleFile ?? "/dev/null" },
	};
}

/** On user-mode networking the guest's addresses are fixed; on a tap they are the user's. */
function addresses(network: ContainerNetwork): GuestNetwork {
	const { device, address, gateway, dns, mtu } = network;
	if (device.kind === "user") {
		const { prefixLength } = userNetwork;
		return {
			address: `${userNetwork.address}/${prefixLength}`,
			gateway: userNetwork.gateway,
			dns: dns ?? [userNetwork.dns],
			mtu: userNetwork.mtu,
		};
	}
	return {
		dns: dns ?? [],
		...(address === undefined ? {} : { address }),
		...(gateway === undefined ? {} : { gateway }),
		...(mtu === undefined ? {} : { mtu }),
	};
}

async function createMachine(config: MachineConfig, consoleFile: string | undefined): Promise<GuestMachine> {
	const console = new TailConsole(consoleFile);
	const machine = await Machine.create({ ...config, console: { kind: "own", console } });
	const agent = firstConnection(machine.vsock!, VSOCK_AGENT_PORT);
	return {
		start: () => machine.start(),
		stop: () => machine.stop(),
		ended: machine.ended,
		agent,
		consoleTail: () => console.tail(),
	};
}

/** The first stream that the guest opens to `port`; it then finds nobody there any more. */
export function firstConnection(vsock: Pick<UnixVsock, "listen">, port: number): Promise<Duplex> {
	return new Promise((resolve) => {
		const stop = vsock.listen(port, (stream) => {
			stop();
			resolve(stream);
		});
	});
}

/** Keeps the last lines of the console for messages; they go to a file too when one is asked for. */
class TailConsole implements HostConsole {
	readonly #file: FileConsole | undefined;
	#text = "";

	constructor(path: string | undefined) {
		this.#file = path === undefined ? undefined : new FileConsole(path);
	}

	write(bytes: Uint8Array): void {
		this.#file?.write(bytes);
		this.#text = (this.#text + Buffer.from(bytes).toString("latin1")).slice(-TAIL_CHARACTERS);
	}

	close(): void {
		this.#file?.close();
	}

	/** Printable text only: it ends up in a message on a terminal. */
	tail(): string {
		const lines = this.#text
			.split(/\r?\n/)
			.map((line) => line.replace(/[^\t\x20-\x7e]/g, "").trimEnd())
			.filter((line) => line !== "");
		return lines.slice(-TAIL_LINES).join("\n");
	}
}
