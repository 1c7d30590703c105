/*
 * A disk of a bare-metal guest, each row against the same disk with one thing different: polled or only kicked, a queue
 * for each of two vCPUs or one for both, without the host's page cache or with it, qcow2 or raw.
 */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FileDisk } from "../../src/backends/file-disk.ts";
import { openQcow2 } from "../../src/backends/qcow2/open.ts";
import { HostError } from "../../src/base/errors.ts";
import { qemuImg } from "../backends/qcow2/qemu-img.ts";
import { buildBareGuests } from "../guest/bare-guest.ts";
import { BLOCK_BYTES, type BlockRates, blockRates, queueReads } from "./block-reads.ts";
import { type BenchRow, rateRow } from "./row.ts";

/** How much is done. */
export interface BlockWork {
	/** Of each run, with one in flight and with many. */
	readonly requests: number;
	readonly manyRequests: number;
	/** The best counts. */
	readonly rounds: number;
}

const MANY = 64;
/** Of each of two vCPUs. */
const MANY_EACH = 16;

/** The best rates of some measurements that are made in turns. */
async function inTurns(rounds: number, measures: (() => Promise<BlockRates>)[]): Promise<BlockRates[]> {
	const rates = measures.map(() => ({ writes: 0, reads: 0 }));
	for (let round = 0; round < rounds; round++) {
		for (const [i, measure] of measures.entries()) {
			const { writes, reads } = await measure();
			rates[i] = { writes: Math.max(rates[i]!.writes, writes), reads: Math.max(rates[i]!.reads, reads) };
		}
	}
	return rates;
}

/** Disks in one directory. */
class Bench {
	readonly #directory = mkdtempSync(join(tmpdir(), "tsvmm-bench-"));
	readonly #work: BlockWork;
	#files = 0;

	constructor(work: BlockWork) {
		this.#work = work;
	}

	remove(): void {
		rmSync(this.#directory, { recursive: true, force: true });
	}

	/** A new image without any block. */
	#image(format: "raw" | "qcow2"): string {
		const path = join(this.#directory, `disk${this.#files++}`);
		const bytes = this.#work.manyRequests * BLOCK_BYTES;
		if (format === "qcow2") qemuImg("create", "-q", "-f", "qcow2", path, `${bytes}`);
		else {
			writeFileSync(path, "");
			truncateSync(path, bytes);
		}
		return path;
	}

	/** One whose first word of block n is n. */
	#numbered(): string {
		const path = this.#image("raw");
		const content = Buffer.alloc(this.#work.manyRequests * BLOCK_BYTES);
		for (let block = 0; block * BLOCK_BYTES < content.length; block++)
			content.writeUInt32LE(block, block * BLOCK_BYTES);
		writeFileSync(path, content);
		return path;
	}

	#count(depth: number): number {
		return depth === 1 ? this.#work.requests : this.#work.manyRequests;
	}

	async polling(): Promise<BenchRow[]> {
		const path = this.#image("raw");
		const rows: BenchRow[] = [];
		for (const depth of [1, MANY]) {
			const run = (polled: boolean) => () =>
				blockRates(FileDisk.open(path), { depth, count: this.#count(depth), polled });
			const [polled, kicked] = await inTurns(this.#work.rounds, [run(true), run(false)]);
			rows.push(...pair(`polled, ${depth} in flight`, polled!, kicked!, "the same, each by a kick"));
		}
		return rows;
	}

	async queues(): Promise<BenchRow[]> {
		const path = this.#numbered();
		const rows: BenchRow[] = [];
		for (const depth of [1, MANY_EACH]) {
			const count = this.#count(depth) / 2;
			const run = (queues: 1 | 2) => async () => ({
				writes: 0,
				reads: await queueReads(path, queues, { depth, count }),
			});
			const [own, shared] = await inTurns(this.#work.rounds, [run(2), run(1)]);
			const name = `4 KiB reads of 2 vCPUs with a queue each, ${depth} in flight each`;
			rows.push(rateRow(name, own!.reads, shared!.reads, "one queue with a lock"));
		}
		return rows;
	}

	/** No rows where the file system of the temporary directory has no O_DIRECT. */
	async direct(): Promise<BenchRow[]> {
		const path = this.#numbered();
		const rows: BenchRow[] = [];
		for (const depth of [1, MANY]) {
			const run = (direct: boolean) => () =>
				blockRates(FileDisk.open(path, { direct }), { depth, count: this.#work.requests });
			try {
				const [without, cached] = await inTurns(this.#work.rounds, [run(true), run(false)]);
				rows.push(...pair(`direct=on, ${depth} in flight`, without!, cached!, "the page cache"));
			} catch (error) {
				if (!(error instanceof HostError && error.code === "ERR_DISK_DIRECT")) throw error;
			}
		}
		return rows;
	}

	async qcow2(): Promise<BenchRow[]> {
		const rows: BenchRow[] = [];
		for (const depth of [1, MANY]) {
			const count = this.#count(depth);
			const fresh = [
				async () => blockRates(await openQcow2(this.#image("qcow2")), { depth, count }),
				() => blockRates(FileDisk.open(this.#image("raw")), { depth, count }),
			];
			const [first, rawFirst] = await inTurns(this.#work.rounds, fresh);
			const [image, raw] = [this.#image("qcow2"), this.#image("raw")];
			const again = [
				async () => blockRates(await openQcow2(image), { depth, count }),
				() => blockRates(FileDisk.open(raw), { depth, count }),
			];
			await inTurns(1, again);
			const [second, rawSecond] = await inTurns(this.#work.rounds, again);
			const name = `qcow2 4 KiB first writes, ${depth} in flight`;
			rows.push(rateRow(name, first!.writes, rawFirst!.writes, "raw"));
			rows.push(...pair(`qcow2, ${depth} in flight`, second!, rawSecond!, "raw"));
		}
		return rows;
	}
}

function pair(name: string, ours: BlockRates, reference: BlockRates, against: string): BenchRow[] {
	return [
		rateRow(`4 KiB reads, ${name}`, ours.reads, reference.reads, against),
		rateRow(`4 KiB writes, ${name}`, ours.writes, reference.writes, against),
	];
}

/** The rows of this file; needs /dev/kvm and qemu-img. Half a minute. */
export async function benchBlock(work: BlockWork): Promise<BenchRow[]> {
	buildBareGuests();
	const bench = new Bench(work);
	try {
		return [...(await bench.polling()), ...(await bench.queues()), ...(await bench.direct()), ...(await bench.qcow2())];
	} finally {
		bench.remove();
	}
}
