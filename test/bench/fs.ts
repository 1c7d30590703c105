/*
 * A directory of the host in a guest: ours against Debian's virtiofsd under QEMU's microvm machine, with the same
 * kernel, initial RAM disk and directory, both in the lab and in turns. What the guest does, and times by its own
 * clock: test/bench/fs.c. The directory is on an ext4 file system in the lab's memory.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Lab } from "../../src/lab/lab.ts";
import { guestInitrd } from "./guest-initrd.ts";
import { benchKernel, type Guest, inLab, qemuCommand, runGuest, tsvmmCommand } from "./lab-host.ts";
import { type BenchRow, rateRow, timeRow } from "./row.ts";

const MEMORY_MIB = 512;
/** In the lab. */
const HOST = "/run/bench-fs";
const SHARE = `${HOST}/share`;
const IMAGE = "/dev/shm/bench-fs.img";
const VIRTIOFSD = "/usr/lib/qemu/virtiofsd";
const PROGRAMS = ["/usr/bin/git", "/usr/bin/tar"];
const MODULES = ["virtio_mmio", "fuse", "virtiofs"];

/** How much the guest does. */
export interface FsWork {
	/** Files that tar unpacks, and git looks at. */
	readonly files: number;
	/** Reads of 4 KiB. */
	readonly reads: number;
	/** Read in pieces of 1 MiB. */
	readonly streamMiB: number;
	/** How often each monitor's guest does it. */
	readonly rounds: number;
}

const PARTS = ["tar", "git", "random", "stream"] as const;
/** Microseconds of each part. */
type Times = Record<(typeof PARTS)[number], number>;

/** A tree of `count` files in directories of a hundred, 0 to 8 KB each, and an archive of it. */
function makeFiles(directory: string, count: number): void {
	for (let i = 0; i < count; i++) {
		const parent = join(directory, "files", `d${Math.floor(i / 100)}`);
		if (i % 100 === 0) mkdirSync(parent, { recursive: true });
		writeFileSync(join(parent, `file-${i}`), `${i}\n`.repeat((i * 37) % 1600));
	}
	execFileSync("tar", ["-cf", join(directory, "files.tar"), "-C", join(directory, "files"), "."]);
}

/** What is in the shared directory, made in the lab. */
function shareScript(directory: string, { reads, streamMiB }: FsWork): string {
	return `
		set -e
		mkdir -p ${SHARE}
		cp ${directory}/vmlinux ${directory}/initrd ${HOST}
		modprobe loop 2>/dev/null || true
		truncate -s 1G ${IMAGE}
		mkfs.ext4 -q ${IMAGE}
		mount -o loop ${IMAGE} ${SHARE}
		mkdir ${SHARE}/tree
		head -c $((${reads} * 8192)) /dev/zero >${SHARE}/data
		head -c ${streamMiB}M /dev/zero >${SHARE}/stream
		cd ${SHARE}/tree
		tar xf ${directory}/files.tar
		git init -q .
		git add -A
		git -c user.name=bench -c user.email=bench@localhost commit -qm files`;
}

function times(output: string): Times {
	const part = (name: string) => {
		const found = new RegExp(`@@${name} (\\d+)@@`).exec(output);
		if (found === null) throw new Error(`the guest has not come to ${name}:\n${output}`);
		return Number(found[1]);
	};
	return Object.fromEntries(PARTS.map((name) => [name, part(name)])) as Times;
}

/** The best of each part: a busy moment of the host hits no monitor alone. */
function best(rounds: readonly Times[]): Times {
	return Object.fromEntries(PARTS.map((name) => [name, Math.min(...rounds.map((times) => times[name]))])) as Times;
}

/** A lab with a shared directory, and the guest that works in it. */
export class FsBench {
	readonly #lab: Lab;
	readonly #directory: string;
	readonly #guest: Guest;

	private constructor(lab: Lab, directory: string, guest: Guest) {
		this.#lab = lab;
		this.#directory = directory;
		this.#guest = guest;
	}

	/** Brings the lab up. */
	static async up(work: FsWork): Promise<FsBench> {
		const kernel = await benchKernel();
		const directory = mkdtempSync(join(tmpdir(), "tsvmm-bench-"));
		const guest = {
			...{ kernel: `${HOST}/vmlinux`, initrd: `${HOST}/initrd`, memoryMiB: MEMORY_MIB },
			cmdline: `quiet reboot=t BENCH_READS=${work.reads}`,
		};
		/* So that the lab has a /var, where virtiofsd wants its lock. */
		const lab = await Lab.up({ name: "bench", shares: [{ path: "/var/tmp", access: "ro" }] });
		const bench = new FsBench(lab, directory, guest);
		try {
			makeFiles(directory, work.files);
			const files = { "files.tar": join(directory, "files.tar") };
			const what = { init: "fs.c", programs: PROGRAMS, files, modules: MODULES };
			writeFileSync(join(directory, "initrd"), await guestInitrd(directory, kernel, what));
			writeFileSync(join(directory, "vmlinux"), readFileSync(kernel.vmlinux));
			await inLab(lab, shareScript(directory, work), directory);
			return bench;
		} catch (error) {
			await bench.down();
			throw error;
		}
	}

	async down(): Promise<void> {
		await this.#lab.down();
		rmSync(this.#directory, { recursive: true, force: true });
	}

	/** The guest under tsvmm. */
	async ours(): Promise<Times> {
		return await this.#run(tsvmmCommand(this.#guest, ["--fs", `tag=bench,path=${SHARE}`]));
	}

	/** The guest under QEMU with virtiofsd, which has extended attributes as we have. */
	async theirs(): Promise<Times> {
		const socket = `${HOST}/socket`;
		const options = ["cache=auto", "xattr", "sandbox=chroot"].map((option) => `-o ${option}`).join(" ");
		const daemon = `${VIRTIOFSD} --socket-path=${socket} -o source=${SHARE} ${options} -f`;
		const qemu = qemuCommand(this.#guest, [
			/* virtiofsd wants a device of virtio 1. */
			...["-global", "virtio-mmio.force-legacy=off"],
			...["-object", `memory-backend-memfd,id=ram,size=${MEMORY_MIB}M,share=on`, "-machine", "memory-backend=ram"],
			...["-chardev", `socket,id=fs,path=${socket}`, "-device", "vhost-user-fs-device,chardev=fs,tag=bench"],
		]);
		const locks = "mount -t tmpfs locks /var && mkdir /var/run";
		const wait = `while ! [ -S ${socket} ]; do kill -0 $! && sleep 0.1 || exit 1; done`;
		const script = `rm -f ${socket}; ${locks}; ${daemon} & ${wait}; "$@"; wait`;
		return await this.#run(["unshare", "-m", "sh", "-c", script, "sh", ...qemu]);
	}

	async #run(command: readonly string[]): Promise<Times> {
		const output = await runGuest(this.#lab, command, this.#directory);
		await inLab(this.#lab, `rm -rf ${SHARE}/out`, this.#directory);
		return times(output);
	}
}

/** The rows of this file. */
export async function benchFs(work: FsWork): Promise<BenchRow[]> {
	const bench = await FsBench.up(work);
	try {
		const [ours, theirs]: [Times[], Times[]] = [[], []];
		for (let round = 0; round < work.rounds; round++) {
			ours.push(await bench.ours());
			theirs.push(await bench.theirs());
		}
		return rows(work, best(ours), best(theirs));
	} finally {
		await bench.down();
	}
}

function rows({ files, reads, streamMiB }: FsWork, ours: Times, theirs: Times): BenchRow[] {
	const against = "virtiofsd under QEMU microvm in the lab";
	const rate = (name: string, count: number, part: keyof Times) =>
		rateRow(name, count / (ours[part] / 1e6), count / (theirs[part] / 1e6), against);
	return [
		rate(`virtio-fs: tar -x, ${files} files, files`, files, "tar"),
		timeRow(`virtio-fs: git status, ${files} files`, "ms", ours.git / 1000, theirs.git / 1000, against),
		rate(`virtio-fs: random reads of 4 KiB, ${reads}`, reads, "random"),
		rate(`virtio-fs: reads of 1 MiB, ${streamMiB} MiB, MiB`, streamMiB, "stream"),
	];
}

if (process.argv[1] === import.meta.filename)
	console.log(JSON.stringify(await benchFs({ files: 100, reads: 100, streamMiB: 4, rounds: 1 }), null, "\t"));
