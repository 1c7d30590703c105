/*
 * Bytes between a guest and its host, ours against QEMU's microvm machine with the same kernel and initial RAM disk, both
 * in the lab and in turns. What the guest does, and times by its own clock, and the other end: test/bench/streams.c.
 *
 *     --net     TCP through a tap: QEMU has virtio-net without vhost
 *     --vsock   ours is vsock on a unix socket, QEMU's a port of virtio-serial on a unix socket
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Lab } from "../../src/lab/lab.ts";
import { guestInitrd } from "./guest-initrd.ts";
import { benchKernel, type Guest, inLab, qemuCommand, runGuest, tsvmmCommand } from "./lab-host.ts";
import { type BenchRow, rateRow, timeRow } from "./row.ts";

const MEMORY_MIB = 256;
/** In the lab: its own memory. */
const HOST = "/run/bench-streams";
const TAP = "benchtap";
const TCP_PORT = 5201;
const MAC = "52:54:00:be:9c:01";
const MODULES = ["virtio_mmio", "virtio_net", "vmw_vsock_virtio_transport", "virtio_console"];
const MIB = 1 << 20;

/** How much is measured. */
export interface StreamWork {
	/** Of each direction, and of the messages. */
	readonly milliseconds: number;
	/** How often each monitor's guest does it. */
	readonly rounds: number;
}

/** What a guest sends its bytes through. */
export type StreamPart = "net" | "vsock";

/** One monitor's guest. */
interface Monitor {
	/** Of test/bench/streams.c. */
	readonly over: Readonly<Record<StreamPart, "tcp" | "vsock" | "serial">>;
	/** The other ends: arguments of the program. */
	readonly peers: Readonly<Record<StreamPart, readonly string[]>>;
	readonly command: (guest: Guest) => string[];
}

const DIRECTIONS = ["up", "down", "echo"] as const;
/** Bytes a second to the host and to the guest, and microseconds for a message of 64 bytes and back. */
type Results = Record<(typeof DIRECTIONS)[number], number>;

const VSOCK = `${HOST}/vsock`;
const SERIAL = `${HOST}/serial`;

const TSVMM: Monitor = {
	over: { net: "tcp", vsock: "vsock" },
	peers: { net: ["tcp", `${TCP_PORT}`], vsock: ["listen", `${VSOCK}_52`] },
	command: (guest) => tsvmmCommand(guest, ["--net", `tap=${TAP},mac=${MAC}`, "--vsock", `cid=3,uds=${VSOCK}`]),
};

const QEMU: Monitor = {
	over: { net: "tcp", vsock: "serial" },
	peers: { net: ["tcp", `${TCP_PORT}`], vsock: ["connect", SERIAL] },
	command: (guest) =>
		qemuCommand(guest, [
			...["-global", "virtio-mmio.force-legacy=off"],
			...["-netdev", `tap,id=net,ifname=${TAP},script=no,downscript=no,vhost=off`],
			...["-device", `virtio-net-device,netdev=net,mac=${MAC}`],
			...["-chardev", `socket,id=port,path=${SERIAL},server=on,wait=off`],
			...["-device", "virtio-serial-device", "-device", "virtserialport,chardev=port,name=bench"],
		]),
};

function resultsIn(output: string, over: string): Results {
	const of = (direction: string) => {
		const found = new RegExp(`@@${over}-${direction} ([0-9.]+)@@`).exec(output);
		if (found === null) throw new Error(`the guest has not come to ${over}-${direction}:\n${output}`);
		return Number(found[1]);
	};
	return Object.fromEntries(DIRECTIONS.map((name) => [name, of(name)])) as Results;
}

/** The best of each direction: a busy moment of the host hits no monitor alone. */
function best(rounds: readonly Results[]): Results {
	const of = (name: keyof Results) => rounds.map((results) => results[name]);
	return { up: Math.max(...of("up")), down: Math.max(...of("down")), echo: Math.min(...of("echo")) };
}

/** Runs a guest under each monitor in turns. @returns what each of them printed */
async function run(parts: readonly StreamPart[], { milliseconds, rounds }: StreamWork): Promise<[string[], string[]]> {
	const kernel = await benchKernel();
	const directory = mkdtempSync(join(tmpdir(), "tsvmm-bench-"));
	const lab = await Lab.up({ name: "bench" });
	const once = async ({ over, peers, command }: Monitor) => {
		const ways = parts.map((part) => over[part]).join(",");
		const cmdline = `quiet reboot=t BENCH_OVER=${ways} BENCH_PORT=${TCP_PORT} BENCH_MS=${milliseconds}`;
		const guest = { kernel: `${HOST}/vmlinux`, initrd: `${HOST}/initrd`, memoryMiB: MEMORY_MIB, cmdline };
		const others = parts.map((part) => `${HOST}/init ${peers[part].join(" ")} & p="$p $!"`).join("; ");
		const script = `rm -f ${VSOCK}* ${SERIAL}; ${others}; "$@"; kill $p 2>/dev/null; wait`;
		return await runGuest(lab, ["sh", "-c", script, "sh", ...command(guest)], directory);
	};
	try {
		const what = { init: "streams.c", programs: [], files: {}, modules: MODULES };
		writeFileSync(join(directory, "initrd"), await guestInitrd(directory, kernel, what));
		writeFileSync(join(directory, "vmlinux"), readFileSync(kernel.vmlinux));
		await inLab(
			lab,
			`mkdir ${HOST} && cp ${directory}/* ${HOST}
			ip tuntap add ${TAP} mode tap && ip addr add 10.0.99.1/24 dev ${TAP} && ip link set ${TAP} up`,
			directory,
		);
		const [ours, theirs]: [string[], string[]] = [[], []];
		for (let round = 0; round < rounds; round++) {
			ours.push(await once(TSVMM));
			theirs.push(await once(QEMU));
		}
		return [ours, theirs];
	} finally {
		await lab.down();
		rmSync(directory, { recursive: true, force: true });
	}
}

/** The rows of this file, of the parts named: each guest uses all of them, one after the other. */
export async function benchStreams(parts: readonly StreamPart[], work: StreamWork): Promise<BenchRow[]> {
	const [ours, theirs] = await run(parts, work);
	return parts.flatMap((part) => {
		const of = (monitor: Monitor, outputs: string[]) =>
			best(outputs.map((output) => resultsIn(output, monitor.over[part])));
		const [our, their] = [of(TSVMM, ours), of(QEMU, theirs)];
		const name = part === "net" ? "virtio-net" : "vsock";
		const peer = part === "net" ? "tap without vhost" : "virtio-serial";
		const against = `${peer} under QEMU microvm in the lab`;
		return [
			rateRow(`${name}: guest to host, MiB`, our.up / MIB, their.up / MIB, against),
			rateRow(`${name}: host to guest, MiB`, our.down / MIB, their.down / MIB, against),
			timeRow(`${name}: 64 bytes and back`, "us", our.echo, their.echo, against),
		];
	});
}
