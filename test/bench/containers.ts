/*
 * Containers from the user's side, each command a process of its own, in the lab. What a VM and a command cost shows
 * against the plainest means of the same host that leave a program running: unshare(1) for `run -d`, nsenter(1) for
 * `exec`, and cp(1). Growth compares the nth container with the first.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureDemoImage } from "../../guests/images/demo.ts";
import { packageRoot } from "../../src/host/native.ts";
import { Lab } from "../../src/lab/lab.ts";
import { inLab } from "./lab-host.ts";
import { type BenchRow, rateRow, timeRow } from "./row.ts";

const TIMEOUT_MS = 900_000;
const MEMORY_MIB = 4096;
const STATE = "/run/tsvmm-state";
const TSVMM = `${process.execPath} ${join(packageRoot(), "dist/tsvmm.js")}`;
const RUN = "run -q -d -m 64m --net none --storage-opt size=256m";

/** How much is done. */
export interface ContainerWork {
	/** How often a command is repeated after the first time, which fills the caches; the median counts. */
	readonly rounds: number;
	/** Copied each way. */
	readonly copyMiB: number;
	/** Numbers of containers, in order; the first is 1. */
	readonly counts: readonly number[];
}

/*
 * `measure NAME COMMAND...` says how long it took, in microseconds. State is on an ext4 file system, as in use; 9p, which
 * the lab has for this machine's files, has no locks.
 */
const PRELUDE = `
	set -e
	export TSVMM_STATE=${STATE}
	measure() {
		name=$1; shift
		start=$(date +%s%N)
		"$@" >/dev/null
		end=$(date +%s%N)
		echo "@@$name $(((end - start) / 1000))@@"
	}
	modprobe loop 2>/dev/null || true
	truncate -s 1536M /dev/shm/state.img
	mkfs.ext4 -q /dev/shm/state.img
	mkdir -p ${STATE}
	mount -o loop /dev/shm/state.img ${STATE}`;

function lifeScript(image: string, { rounds, copyMiB }: ContainerWork): string {
	return `${PRELUDE}
		head -c ${copyMiB}M /dev/urandom >${STATE}/file
		for round in $(seq 0 ${rounds}); do
			measure run ${TSVMM} ${RUN} --name c$round ${image} sleep 100000
			unshare --fork --pid --mount --uts --ipc sleep 1000 >/dev/null 2>&1 &
			measure exec ${TSVMM} exec c$round true
			measure nsenter nsenter -t $(pgrep -n -x sleep) -p -m -u -i true
			measure unshare unshare --fork --pid --mount --uts --ipc true
			measure copyIn ${TSVMM} cp -q ${STATE}/file c$round:/file
			measure copyOut ${TSVMM} cp -q c$round:/file ${STATE}/back
			cmp ${STATE}/file ${STATE}/back
			measure cp sh -c 'cp ${STATE}/file ${STATE}/copy'
			${TSVMM} rm -f c$round >/dev/null
			rm ${STATE}/back ${STATE}/copy
			pkill -x sleep || true
		done`;
}

/** The proportional set size of all processes that supervise a container, in KiB. */
const MEMORY = `cat $(pgrep -f '[c]ontainer supervise' | sed 's|.*|/proc/&/smaps_rollup|') | awk '/^Pss:/ { sum += $2 } END { print sum }'`;

function growthScript(image: string, { counts }: ContainerWork): string {
	const most = counts[counts.length - 1]!;
	return `${PRELUDE}
		for n in $(seq ${most}); do
			measure run$n ${TSVMM} ${RUN} --name c$n ${image} sleep 100000
			case ' ${counts.join(" ")} ' in
			*" $n "*)
				measure ps$n ${TSVMM} ps
				measure ps$n ${TSVMM} ps
				measure ps$n ${TSVMM} ps
				echo "@@memory$n $(${MEMORY})@@" ;;
			esac
		done
		${TSVMM} rm -f $(seq -f c%g ${most}) >/dev/null`;
}

/** All figures of a name, without the first, which fills the caches, if there are more. */
function figures(output: string, name: string): number[] {
	const all = [...output.matchAll(new RegExp(`@@${name} (\\d+)@@`, "g"))].map(([, figure]) => Number(figure));
	if (all.length === 0) throw new Error(`the lab has not measured ${name}:\n${output}`);
	return (all.length > 1 ? all.slice(1) : all).sort((a, b) => a - b);
}

function median(output: string, name: string): number {
	const sorted = figures(output, name);
	return sorted[sorted.length >> 1]!;
}

/** Runs a script in a lab of its own. */
async function measured(script: (image: string) => string): Promise<string> {
	const image = await ensureDemoImage("busybox");
	const directory = mkdtempSync(join(tmpdir(), "tsvmm-bench-"));
	const lab = await Lab.up({ name: "bench", memoryMiB: MEMORY_MIB });
	try {
		return await inLab(lab, script(image), directory, TIMEOUT_MS);
	} finally {
		await lab.down();
		rmSync(directory, { recursive: true, force: true });
	}
}

/** `run -d`, `exec` and `cp`. */
export async function benchContainers(work: ContainerWork): Promise<BenchRow[]> {
	const output = await measured((image) => lifeScript(image, work));
	const ms = (name: string) => median(output, name) / 1000;
	const rate = (name: string) => (work.copyMiB * 1.048576) / (median(output, name) / 1e6);
	return [
		timeRow("run -d to running", "ms", ms("run"), ms("unshare"), "unshare of namespaces in the lab, no VM"),
		timeRow("exec round trip", "ms", ms("exec"), ms("nsenter"), "nsenter into them, no VM"),
		rateRow(`cp into a container, ${work.copyMiB} MiB, MB`, rate("copyIn"), rate("cp"), "cp in the lab, no VM"),
		rateRow(`cp out of it, ${work.copyMiB} MiB, MB`, rate("copyOut"), rate("cp"), "cp in the lab, no VM"),
	];
}

/** What the nth container costs, against the first. */
export async function benchGrowth(work: ContainerWork): Promise<BenchRow[]> {
	const output = await measured((image) => growthScript(image, work));
	return work.counts
		.filter((count) => count > 1)
		.flatMap((count) => {
			const mib = (n: number) => median(output, `memory${n}`) / 1024 / n;
			const ms = (name: string) => median(output, name) / 1000;
			const against = "the first container alone";
			return [
				timeRow(`memory of a monitor, ${count} containers`, "MiB", mib(count), mib(1), against),
				timeRow(`ps, ${count} containers`, "ms", ms(`ps${count}`), ms("ps1"), against),
				timeRow(`run -d, container ${count}`, "ms", ms(`run${count}`), ms("run1"), against),
			];
		});
}

if (process.argv[1] === import.meta.filename) {
	const work = { rounds: 1, copyMiB: 8, counts: [1, 3] };
	console.log(JSON.stringify([...(await benchContainers(work)), ...(await benchGrowth(work))], null, "\t"));
}
