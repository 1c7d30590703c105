/*
 * The envelope of every ACPI table: a 36-byte header whose checksum makes all bytes of the table add up to 0
 * (ACPI 6.5 §5.2.6), and the generic address structure (§5.2.3.2).
 */

const OEM_ID = "TSVMM ";
const OEM_TABLE_ID = "TSVMM   ";
const CREATOR_ID = "TSVM";
/** Bytes of a table header. */
export const HEADER_BYTES = 36;

/** The byte that makes `bytes` add up to 0 modulo 256. Its own place must hold 0. */
export function checksum(bytes: Uint8Array): number {
	let sum = 0;
	for (const byte of bytes) sum = (sum + byte) & 0xff;
	return (0x100 - sum) & 0xff;
}

/** A table: header and body, checksum in place. */
export function table(signature: string, revision: number, body: Uint8Array): Buffer {
	const bytes = Buffer.alloc(HEADER_BYTES + body.length);
	bytes.write(signature, 0, 4, "latin1");
	bytes.writeUInt32LE(bytes.length, 4);
	bytes[8] = revision;
	bytes.write(OEM_ID, 10, 6, "latin1");
	bytes.write(OEM_TABLE_ID, 16, 8, "latin1");
	bytes.writeUInt32LE(1, 24);
	bytes.write(CREATOR_ID, 28, 4, "latin1");
	bytes.writeUInt32LE(1, 32);
	bytes.set(body, HEADER_BYTES);
	bytes[9] = checksum(bytes);
	return bytes;
}

/** The root pointer, revision 2 (ACPI 6.5 §5.2.5.3). It alone has another header. */
export function rootPointer(xsdt: number): Buffer {
	const bytes = Buffer.alloc(36);
	bytes.write("RSD PTR ", 0, 8, "latin1");
	bytes.write(OEM_ID, 9, 6, "latin1");
	bytes[15] = 2;
	bytes.writeUInt32LE(bytes.length, 20);
	bytes.writeBigUInt64LE(BigInt(xsdt), 24);
	bytes[8] = checksum(bytes.subarray(0, 20));
	bytes[32] = checksum(bytes);
	return bytes;
}

/** Stores a generic address structure for one byte-wide I/O port at `at`. */
export function portAddress(bytes: Buffer, at: number, port: number): void {
	const SYSTEM_IO = 1;
	const BYTE_ACCESS = 1;
	bytes[at] = SYSTEM_IO;
	bytes[at + 1] = 8;
	bytes[at + 2] = 0;
	bytes[at + 3] = BYTE_ACCESS;
	bytes.writeBigUInt64LE(BigInt(port), at + 4);
}
