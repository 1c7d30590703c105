/*
 * npm run bench: prints every benchmark as a ratio to its reference, measured in the same run.
 *
 *     --exits --block --scale --boot --disk --fs --net --vsock --containers --growth --oci --pull   only these parts; all when none is named
 *     --small                                            the work of the last ones in its smallest form
 *     --files=N                                          files of --fs; 500 when missing, which takes minutes in the lab
 *     --json
 *
 * Exits need /dev/kvm (as --block and --scale) and are measured in the lab if this machine has none, as the others are always.
 */
import { existsSync } from "node:fs";
import { packageRoot } from "../../src/host/native.ts";
import { Lab } from "../../src/lab/lab.ts";
import { benchBlock } from "./block.ts";
import { benchBoot } from "./boot.ts";
import { benchContainers, benchGrowth } from "./containers.ts";
import { benchDisk, type DiskWork, JOBS } from "./disk.ts";
import { benchExits } from "./exit.ts";
import { benchFs } from "./fs.ts";
import { benchOci } from "./oci.ts";
import { benchPull } from "./pull.ts";
import { type BenchRow, table } from "./row.ts";
import { benchScale, type ScaleWork } from "./scale.ts";
import { benchStreams } from "./streams.ts";
import { benchVsockHost } from "./vsock-host.ts";

async function exitsInLab(): Promise<BenchRow[]> {
	/* Its own lab, which ends with the benchmark. The guests are built there, into guests/out. */
	const lab = await Lab.up({ name: "bench", shares: [{ path: packageRoot(), access: "rw" }] });
	try {
		const { status, stdout, stderr } = await lab.exec([
			process.execPath,
			"--import",
			"tsx",
			import.meta.filename,
			"--exits",
			"--json",
		]);
		if (status !== 0) throw new Error(`Cannot measure exits in the lab: exit status ${status}\n${stderr}`);
		return JSON.parse(stdout.toString());
	} finally {
		await lab.down();
	}
}

const small = process.argv.includes("--small");
const files = Number(process.argv.find((word) => word.startsWith("--files="))?.slice("--files=".length) ?? 500);
/* A guest in the lab is fifty times slower than on a host, so even the large form is not what a host would be given. */
const fsWork = small
	? { files: 50, reads: 50, streamMiB: 2, rounds: 1 }
	: { files, reads: 1000, streamMiB: 32, rounds: 2 };
const diskWork: DiskWork = small
	? { jobs: JOBS.slice(2, 3), seconds: 1, engines: ["threads"], rounds: 1 }
	: { jobs: JOBS, seconds: 5, engines: ["io_uring", "threads"], rounds: 2 };
const blockWork = small
	? { requests: 128, manyRequests: 1024, rounds: 1 }
	: { requests: 1024, manyRequests: 4096, rounds: 3 };
const scaleWork: ScaleWork = small
	? {
			...{ memoryMiB: [64, 256], cpus: [1, 2], initrdMiB: [1, 8], machines: [1, 3] },
			...{ disks: [1, 2], depths: [1, 4], requests: 256, rounds: 1 },
		}
	: {
			...{ memoryMiB: [64, 256, 1024, 4096, 16_384], cpus: [1, 2, 4, 8, 16, 32], initrdMiB: [1, 8, 64, 256, 1024] },
			...{ machines: [5, 10, 25, 50, 100], disks: [1, 2, 4] },
			...{ depths: [1, 2, 4, 8, 16, 32, 64], requests: 4096, rounds: 4 },
		};
const streamWork = small ? { milliseconds: 200, rounds: 1 } : { milliseconds: 8000, rounds: 2 };
const pairWork = small ? { milliseconds: 100, rounds: 1 } : { milliseconds: 1000, rounds: 3 };
const containerWork = small
	? { rounds: 0, copyMiB: 4, counts: [1, 2] }
	: { rounds: 1, copyMiB: 16, counts: [1, 5, 20] };

const PARTS: Readonly<Record<string, (wanted: readonly string[]) => Promise<BenchRow[]>>> = {
	"--exits": async () => (existsSync("/dev/kvm") ? await benchExits() : await exitsInLab()),
	"--block": () => benchBlock(blockWork),
	"--scale": () => benchScale(scaleWork),
	"--boot": () => benchBoot({ pairs: small ? 1 : 4 }),
	"--disk": () => benchDisk(diskWork),
	"--fs": () => benchFs(fsWork),
	/* One guest does both, if both are wanted. */
	"--net": (wanted) => benchStreams(wanted.includes("--vsock") ? ["net", "vsock"] : ["net"], streamWork),
	"--vsock": async (wanted) => [
		...(wanted.includes("--net") ? [] : await benchStreams(["vsock"], streamWork)),
		...(await benchVsockHost(pairWork)),
	],
	"--containers": () => benchContainers(containerWork),
	"--growth": () => benchGrowth(containerWork),
	"--oci": () => benchOci({ rounds: small ? 0 : 2 }),
	"--pull": benchPull,
};

const named = Object.keys(PARTS).filter((part) => process.argv.includes(part));
const wanted = named.length > 0 ? named : Object.keys(PARTS);
const rows: BenchRow[] = [];
for (const part of wanted) rows.push(...(await PARTS[part]!(wanted)));
process.stdout.write(process.argv.includes("--json") ? `${JSON.stringify(rows, null, "\t")}\n` : `${table(rows)}\n`);
