/* Lab 7 and wrong attempts at it. */
import { labSuite } from "./attempts.ts";

labSuite(7, [
	{
		what: "a capacity in bytes",
		edits: [["BigInt(bytes.length / SECTOR_BYTES)", "BigInt(bytes.length)"]],
		finding: "the configuration says 32768 sectors; 64 were expected for 32768 bytes",
	},
	{
		what: "answers that are not flushed",
		edits: [["queue?.flush();", ""]],
		finding: "a read of sector 7: no answer came",
		hint: "flush at the end",
	},
	{
		what: "a status in front of the data",
		edits: [["Uint8Array.of(status), room)", "Uint8Array.of(status), 0)"]],
		finding: "a read of sector 7 has status 238 (nothing was written there)",
		hint: "The last writable byte",
	},
	{
		what: "a sector number that is taken for bytes",
		edits: [["Number(sector) * SECTOR_BYTES", "Number(sector)"]],
		finding: "and gives 1, 1, ...; the bytes of sector 7 are all 8",
	},
	{
		what: "a wrong number of written bytes",
		edits: [["return written + 1;", "return writable.totalBytes - 1;"]],
		finding: "and was pushed with 512 written bytes",
	},
	{
		what: "data of a write that begins with the header",
		edits: [["readable.copyTo(part, HEADER_BYTES)", "readable.copyTo(part)"]],
		finding: "a write of sectors 10 and 11 has status 0 (VIRTIO_BLK_S_OK); the data did not arrive",
	},
	{
		what: "an unknown type that succeeds",
		edits: [["status = S_UNSUPP;", "status = S_OK;"]],
		finding: "a request of type 77 has status 0 (VIRTIO_BLK_S_OK); 2 (VIRTIO_BLK_S_UNSUPP) was expected",
	},
	{
		what: "sectors that do not exist",
		edits: [
			["if (sector * BigInt(SECTOR_BYTES) + BigInt(lengthBytes) > BigInt(this.#bytes.length)) return undefined;", ""],
		],
		finding: "a read that begins beyond the end has status 0",
	},
	{
		what: "a write that is cut short at the end",
		edits: [
			["> BigInt(this.#bytes.length)", "> BigInt(this.#bytes.length + 512 * Number(this.#writing))"],
			[
				"const part = this.#part(sector, readable",
				"this.#writing = true;\n\t\t\tconst part = this.#part(sector, readable",
			],
			["#queue: Virtqueue | undefined;", "#queue: Virtqueue | undefined;\n\t#writing = false;"],
			["if (type === T_IN) {", "this.#writing = false;\n\t\tif (type === T_IN) {"],
		],
		finding: "a write of two sectors from the last one has status 0",
	},
	{
		what: "a header that is believed to be there",
		edits: [["readable.totalBytes < HEADER_BYTES || ", ""]],
		finding: "a request whose header has 3 bytes of 16 has status 0",
	},
	{
		what: "one chain for each notification",
		edits: [
			[
				"for (let chain = queue?.pop(); chain !== undefined; chain = queue?.pop()) {",
				"const chain = queue?.pop();\n\t\tif (chain !== undefined) {",
			],
		],
		finding: /eight reads with one kick: \d were answered/,
	},
]);
