/*
 * The QEMU process that is the lab's VM: started once to make the template, then once per lab to go on from
 * it. It never outlives the supervisor: the kernel kills it when its parent ends (PR_SET_PDEATHSIG, through setpriv).
 * Its control protocol and the agent's serial port are socket pairs, so nothing of it lies on disk.
 *
 * One vCPU is the default: QEMU 7.2 emulating SVM hangs with two (stale translations after the kernel patches itself).
 */
import { type ChildProcess, spawn } from "node:child_process";
import type { Duplex, Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { HostError } from "../base/errors.ts";
import { findTool, toolMissing } from "../host/tools.ts";
import { Qmp } from "./qmp.ts";

export const QEMU = "qemu-system-x86_64";

/** The files that a machine is made of. */
export interface QemuFiles {
	vmlinux: string;
	initramfs: string;
	/** Holds the machine's RAM. */
	ram: string;
	/** Holds all the rest of a saved machine. */
	state: string;
}

export interface QemuSize {
	memoryMiB: number;
	cpus: number;
}

const CMDLINE = [
	"console=ttyS0",
	"quiet",
	"panic=-1",
	"tsc=reliable",
	"mitigations=off",
	"nokaslr",
	"nowatchdog",
	"random.trust_cpu=on",
].join(" ");

/** A comma in an option's value is written with two. */
function doubled(path: string): string {
	return path.replaceAll(",", ",,");
}

/** What both machines have in common; a saved machine only goes on in one with the same arguments. */
export function machineArguments({ memoryMiB, cpus }: QemuSize): string[] {
	return [
		...["-M", "q35,memory-backend=ram,smbus=off,sata=off,usb=off,vmport=off"],
		/* Without cx16: an interrupted CMPXCHG16B of a nested guest comes back with garbage in RFLAGS (QEMU 7.2), and
		 * Linux 6.12 uses it in its allocator. */
		...["-cpu", "EPYC-Rome,+svm,-cx16"],
		...["-accel", "tcg,thread=multi,tb-size=512", "-smp", `${cpus}`, "-m", `${memoryMiB}M`],
		...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-append", CMDLINE],
		...["-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control"],
		...["-chardev", "socket,id=agent,fd=4", "-device", "virtio-serial-pci"],
		...["-device", "virtserialport,chardev=agent,name=tsvmm.agent"],
		...["-fsdev", "local,id=files,path=/,security_model=none,multidevs=remap"],
		...["-device", "virtio-9p-pci,fsdev=files,mount_tag=files"],
		...["-fsdev", "local,id=system,path=/,security_model=none,readonly=on,multidevs=remap"],
		...["-device", "virtio-9p-pci,fsdev=system,mount_tag=system"],
		...["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="],
		...["-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng"],
		// A new identity after each restore makes the kernel seed its random numbers anew.
		...["-device", "vmgenid,guid=auto"],
	];
}

const KEPT_CHARACTERS = 4000;

export class Qemu {
	readonly qmp: Qmp;
	/** The host's end of the agent's serial port. */
	readonly agent: Duplex;
	/** Resolves when the process has ended, with how. */
	readonly ended: Promise<string>;
	readonly pid: number;
	readonly #child: ChildProcess;
	#said = "";
	#over = false;

	private constructor(child: ChildProcess) {
		this.#child = child;
		this.pid = child.pid ?? 0;
		this.qmp = new Qmp(child.stdio[3] as Duplex);
		this.agent = child.stdio[4] as Duplex;
		this.agent.on("error", () => undefined);
		(child.stderr as Readable).setEncoding("utf8").on("data", (text: string) => {
			this.#said = (this.#said + text.replace(/.*warning: TCG doesn't support.*\n/g, "")).slice(-KEPT_CHARACTERS);
		});
		this.ended = new Promise((resolve) => {
			const end = (how: string) => {
				this.#over = true;
				resolve(how);
			};
			child.once("error", (error) => end(error.message));
			child.once("close", (code, signal) => end(signal === null ? `exit status ${code}` : `signal ${signal}`));
		});
	}

	/**
	 * Starts a machine: from its kernel, with RAM that is kept in `files.ram`; or waiting to go on from a saved one,
	 * with RAM of its own that begins as `files.ram`.
	 *
	 * @param console file for what the kernel prints
	 */
	static start(files: QemuFiles, size: QemuSize, how: "boot" | "restore", console: string): Qemu {
		const path = findTool(QEMU);
		if (path === undefined) throw toolMissing(QEMU);
		const setpriv = findTool("setpriv");
		if (setpriv === undefined) throw toolMissing("setpriv");
		const share = how === "boot" ? "on" : "off";
		const args = [
			...[
				"-object",
				`memory-backend-file,id=ram,size=${size.memoryMiB}M,mem-path=${doubled(files.ram)},share=${share}`,
			],
			...["-kernel", files.vmlinux, "-initrd", doubled(files.initramfs), "-serial", `file:${console}`],
			...machineArguments(size),
			...(how === "restore" ? ["-incoming", "defer"] : []),
		];
		const child = spawn(setpriv, ["--pdeathsig", "KILL", "--", path, ...args], {
			stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"],
		});
		return new Qemu(child);
	}

	/** QEMU's last words, for messages. */
	get said(): string {
		return this.#said.trim();
	}

	async #ignoreShared(): Promise<void> {
		await this.qmp.execute("qmp_capabilities");
		// RAM is in a file already: only the rest is written and read.
		const capabilities = [{ capability: "x-ignore-shared", state: true }];
		await this.qmp.execute("migrate-set-capabilities", { capabilities });
	}

	/** Stops the machine, writes all but its RAM to `state` and ends QEMU. */
	async save(state: string): Promise<void> {
		await this.#ignoreShared();
		await this.qmp.execute("stop");
		await this.qmp.execute("migrate", { uri: execUri(`cat >${quote(state)}`) });
		for (;;) {
			const { status } = (await this.qmp.execute("query-migrate")) as { status?: string };
			if (status === "completed") break;
			if (status === "failed") throw new HostError("ERR_LAB_QEMU", `Cannot save the lab's machine\n${this.said}`);
			await sleep(10);
		}
		await this.qmp.execute("quit");
		await this.ended;
	}

	/** Goes on from the machine in `state`. */
	async restore(state: string): Promise<void> {
		await this.#ignoreShared();
		await this.qmp.execute("migrate-incoming", { uri: execUri(`cat ${quote(state)}`) });
		for (;;) {
			const { status } = (await this.qmp.execute("query-status")) as { status: string };
			if (status !== "inmigrate") break;
			await sleep(5);
		}
		await this.qmp.execute("cont");
	}

	/** Ends QEMU at once and waits for it. */
	async kill(): Promise<void> {
		if (!this.#over) this.#child.kill("SIGKILL");
		await this.ended;
		this.qmp.destroy();
		this.agent.destroy();
	}
}

function quote(path: string): string {
	return `'${path.replaceAll("'", "'\\''")}'`;
}

function execUri(command: string): string {
	return `exec:${command}`;
}
