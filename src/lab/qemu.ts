/*
 * The QEMU process that runs the lab's VM. One QEMU boots the VM and saves it as the template; later each lab has a
 * QEMU that resumes the template. QEMU never outlives the supervisor: the kernel kills it when its parent ends
 * (PR_SET_PDEATHSIG, set by setpriv). QMP and the agent's serial port are socket pairs.
 *
 * One vCPU is the default. With two, QEMU 7.2 hangs when it emulates SVM: it goes on to use translations of code that
 * the kernel has patched.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { Duplex, Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { HostError } from "../base/errors.ts";
import { boundCommand } from "../host/bound-command.ts";
import { findTool, toolMissing } from "../host/tools.ts";
import { CONFINED, type FileTree } from "./file-tree.ts";
import { Qmp } from "./qmp.ts";

export const QEMU = "qemu-system-x86_64";

/** The files of a VM. */
export interface QemuFiles {
	vmlinux: string;
	initramfs: string;
	/** The VM's RAM. */
	ram: string;
	/** All other state of a saved VM. */
	state: string;
}

export interface QemuSize {
	memoryMiB: number;
	cpus: number;
}

/** What QEMU is given besides its files, for the template's VM and for a lab's. */
export interface QemuMachine {
	size: QemuSize;
	/** File for what the kernel prints. */
	console: string;
	/** Descriptor of the lab's lock, which QEMU inherits (lock.ts). */
	lock: number;
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

/** QEMU wants a comma in an option's value doubled. */
function escapeComma(path: string): string {
	return path.replaceAll(",", ",,");
}

/** The arguments of both VMs. QEMU resumes a saved VM only with the arguments that it was saved with. */
export function machineArguments({ memoryMiB, cpus }: QemuSize): string[] {
	return [
		...["-M", "q35,memory-backend=ram,smbus=off,sata=off,usb=off,vmport=off"],
		/* Without cx16, because QEMU 7.2 puts garbage into RFLAGS when a nested guest's CMPXCHG16B is interrupted. The
		 * allocator of Linux 6.12 uses the instruction. */
		...["-cpu", "EPYC-Rome,+svm,-cx16"],
		...["-accel", "tcg,thread=multi,tb-size=512", "-smp", `${cpus}`, "-m", `${memoryMiB}M`],
		...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-append", CMDLINE],
		...["-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control"],
		...["-chardev", "socket,id=agent,fd=4", "-device", "virtio-serial-pci"],
		...["-device", "virtserialport,chardev=agent,name=tsvmm.agent"],
		...["-device", "virtio-9p-pci,fsdev=files,mount_tag=files"],
		...["-device", "virtio-9p-pci,fsdev=system,mount_tag=system"],
		...["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="],
		...["-object", "rng-builtin,id=rng", "-device", "virtio-rng-pci,rng=rng"],
		/* A new generation ID after each restore makes the kernel seed its random numbers anew. */
		...["-device", "vmgenid,guid=auto"],
	];
}

/**
 * The directory that the lab sees, as the two 9p exports "files" and "system" (shares.ts). A resumed VM may have
 * another directory than the template's.
 */
function exports(directory: string): string[] {
	const options = `path=${escapeComma(directory)},security_model=none,multidevs=remap`;
	return ["-fsdev", `local,id=files,${options}`, "-fsdev", `local,id=system,readonly=on,${options}`];
}

/** Keeps a QEMU that a guest has taken over from starting programs and gaining rights. Needs seccomp in the kernel. */
function sandbox(): string[] {
	if (!/^Seccomp:/m.test(readFileSync("/proc/self/status", "utf8"))) return [];
	return ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"];
}

const KEPT_CHARACTERS = 4000;

/** How long QEMU takes to end when its sockets are closed. */
const END_MS = 2000;
/** After QMP, the agent's port and the lab's lock. */
const STATE_FD = 6;

export class Qemu {
	readonly qmp: Qmp;
	/** The host's end of the agent's serial port. */
	readonly agent: Duplex;
	/** Resolves when the process has ended, with its exit status or signal in words. */
	readonly ended: Promise<string>;
	readonly pid: number;
	readonly #child: ChildProcess;
	#stderr = "";
	#over = false;

	private constructor(child: ChildProcess) {
		this.#child = child;
		this.pid = child.pid ?? 0;
		this.qmp = new Qmp(child.stdio[3] as Duplex);
		this.agent = child.stdio[4] as Duplex;
		this.agent.on("error", () => undefined);
		(child.stderr as Readable).setEncoding("utf8").on("data", (text: string) => {
			this.#stderr = (this.#stderr + text.replace(/.*warning: TCG doesn't support.*\n/g, "")).slice(-KEPT_CHARACTERS);
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
	 * Boots a VM from its kernel. Its RAM is the file `files.ram`. It sees no files of the host.
	 */
	static boot(files: QemuFiles, { size, console, lock }: QemuMachine): Qemu {
		const args = [...memory(files.ram, size, "on"), ...kernel(files), "-serial", `file:${console}`];
		return new Qemu(launch([], [...args, ...exports(dirname(files.ram)), ...machineArguments(size)], [lock]));
	}

	/**
	 * Starts QEMU for a saved VM; `restore` resumes it. Its RAM is a private mapping of `files.ram`.
	 *
	 * @param tree the host's files that it sees; all of them when undefined
	 */
	static resume(files: QemuFiles, { size, console, lock }: QemuMachine, tree: FileTree | undefined): Qemu {
		const inside = tree === undefined ? files : within(CONFINED.template, files);
		const serial = tree === undefined ? console : CONFINED.console;
		const args = [...memory(inside.ram, size, "off"), ...kernel(inside), "-serial", `file:${serial}`];
		const shared = exports(tree === undefined ? "/" : CONFINED.files);
		closeSync(openSync(console, "a", 0o600));
		const state = openSync(files.state, "r");
		try {
			const wrap = tree?.confine(dirname(files.ram), console) ?? [];
			const rest = [...shared, ...machineArguments(size), ...sandbox(), "-incoming", "defer"];
			return new Qemu(launch(wrap, [...args, ...rest], [lock, state]));
		} finally {
			closeSync(state);
		}
	}

	/** The last 4000 characters that QEMU has printed on standard error. */
	get stderr(): string {
		return this.#stderr.trim();
	}

	/** @throws HostError ERR_LAB_QEMU with what QEMU has said when it ended at once */
	async #greet(): Promise<void> {
		try {
			await this.qmp.execute("qmp_capabilities");
		} catch (cause) {
			const how = await Promise.race([this.ended, sleep(END_MS, "it does not answer", { ref: false })]);
			throw new HostError("ERR_LAB_QEMU", `Cannot start QEMU: ${how}\n${this.stderr}`.trimEnd(), { cause });
		}
	}

	async #ignoreShared(): Promise<void> {
		await this.#greet();
		/* RAM is in a file already, so migration writes and reads only the other state. */
		const capabilities = [{ capability: "x-ignore-shared", state: true }];
		await this.qmp.execute("migrate-set-capabilities", { capabilities });
	}

	/** Stops the VM, writes all its state but RAM to the file `state`, and ends QEMU. */
	async save(state: string): Promise<void> {
		await this.#ignoreShared();
		await this.qmp.execute("stop");
		await this.qmp.execute("migrate", { uri: `exec:cat >${quote(state)}` });
		for (;;) {
			const { status } = (await this.qmp.execute("query-migrate")) as { status?: string };
			if (status === "completed") break;
			if (status === "failed") throw new HostError("ERR_LAB_QEMU", `Cannot save the lab's machine\n${this.stderr}`);
			await sleep(10);
		}
		await this.qmp.execute("quit");
		await this.ended;
	}

	/** Reads the saved state and resumes the VM. */
	async restore(): Promise<void> {
		await this.#ignoreShared();
		await this.qmp.execute("migrate-incoming", { uri: `fd:${STATE_FD}` });
		for (;;) {
			const { status } = (await this.qmp.execute("query-status")) as { status: string };
			if (status !== "inmigrate") break;
			await sleep(5);
		}
		await this.qmp.execute("cont");
	}

	/** Kills QEMU and waits for its end. */
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

function memory(path: string, { memoryMiB }: QemuSize, share: "on" | "off"): string[] {
	return ["-object", `memory-backend-file,id=ram,size=${memoryMiB}M,mem-path=${escapeComma(path)},share=${share}`];
}

function kernel({ vmlinux, initramfs }: QemuFiles): string[] {
	return ["-kernel", vmlinux, "-initrd", escapeComma(initramfs)];
}

/** The paths of the same files in QEMU's namespace. */
function within(directory: string, files: QemuFiles): QemuFiles {
	const moved = Object.entries(files).map(([name, path]) => [name, join(directory, basename(path))]);
	return Object.fromEntries(moved) as QemuFiles;
}

/**
 * Starts QEMU, which dies with this process.
 *
 * @param wrap the command line before QEMU's own (FileTree.confine)
 * @param inherited descriptors that become 5, 6 and so on
 */
function launch(wrap: readonly string[], args: readonly string[], inherited: readonly number[]): ChildProcess {
	const path = findTool(QEMU);
	if (path === undefined) throw toolMissing(QEMU);
	const [program, words] = boundCommand([...wrap, path, ...args]);
	return spawn(program, words, { cwd: "/", stdio: ["ignore", "ignore", "pipe", "pipe", "pipe", ...inherited] });
}
