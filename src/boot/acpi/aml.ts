/*
 * A small encoder for ACPI Machine Language, with the terms of our DSDT (ACPI 6.5 §20.2, resource descriptors §6.4).
 * Every function returns the bytes of one term; terms nest by concatenation.
 */

const NAME_OP = 0x08;
const BYTE_PREFIX = 0x0a;
const WORD_PREFIX = 0x0b;
const DWORD_PREFIX = 0x0c;
const STRING_PREFIX = 0x0d;
const SCOPE_OP = 0x10;
const BUFFER_OP = 0x11;
const PACKAGE_OP = 0x12;
const METHOD_OP = 0x14;
const LOCAL0_OP = 0x60;
const STORE_OP = 0x70;
const AND_OP = 0x7b;
const NOTIFY_OP = 0x86;
const IF_OP = 0xa0;
const RETURN_OP = 0xa4;
const EXT_OP = 0x5b;
const REGION_OP = 0x80;
const FIELD_OP = 0x81;
const DEVICE_OP = 0x82;
const ROOT_CHAR = 0x5c;

/** A name segment of four characters, padded with underscores; a leading backslash names the root. */
export function path(name: string): Buffer {
	const absolute = name.startsWith("\\");
	const segment = (absolute ? name.slice(1) : name).padEnd(4, "_");
	if (!/^[A-Z_][A-Z0-9_]{3}$/.test(segment)) throw new RangeError(`"${name}" is no ACPI name`);
	const bytes = Buffer.from(segment, "latin1");
	return absolute ? Buffer.concat([Buffer.from([ROOT_CHAR]), bytes]) : bytes;
}

/** An integer, in its shortest encoding. */
export function integer(value: number): Buffer {
	if (value === 0 || value === 1) return Buffer.from([value]);
	if (value <= 0xff) return Buffer.from([BYTE_PREFIX, value]);
	const bytes = Buffer.alloc(value <= 0xffff ? 3 : 5);
	if (value <= 0xffff) {
		bytes[0] = WORD_PREFIX;
		bytes.writeUInt16LE(value, 1);
	} else {
		bytes[0] = DWORD_PREFIX;
		bytes.writeUInt32LE(value, 1);
	}
	return bytes;
}

/** A string of ASCII characters. */
export function string(value: string): Buffer {
	return Buffer.from([STRING_PREFIX, ...Buffer.from(value, "latin1"), 0]);
}

/** EISAID("PNP0501"): three letters of five bits and four hexadecimal digits, in big-endian order. */
export function eisaId(id: string): Buffer {
	const letters = [0, 1, 2].reduce((sum, i) => (sum << 5) | (id.charCodeAt(i) - 0x40), 0);
	const value = ((letters << 16) | Number.parseInt(id.slice(3), 16)) >>> 0;
	const bytes = Buffer.alloc(5);
	bytes[0] = DWORD_PREFIX;
	bytes.writeUInt32BE(value, 1);
	return bytes;
}

/** Name (`name`, `value`). */
export function name(objectName: string, value: Buffer): Buffer {
	return Buffer.concat([Buffer.from([NAME_OP]), path(objectName), value]);
}

/** Package () { ... } */
export function pkg(...elements: Buffer[]): Buffer {
	return Buffer.concat([Buffer.from([PACKAGE_OP]), withLength([Buffer.from([elements.length]), ...elements])]);
}

/** Scope (`scopeName`) { ... } */
export function scope(scopeName: string, ...terms: Buffer[]): Buffer {
	return Buffer.concat([Buffer.from([SCOPE_OP]), withLength([path(scopeName), ...terms])]);
}

/** Device (`deviceName`) { ... } */
export function device(deviceName: string, ...terms: Buffer[]): Buffer {
	return Buffer.concat([Buffer.from([EXT_OP, DEVICE_OP]), withLength([path(deviceName), ...terms])]);
}

/** OperationRegion (`regionName`, SystemIO, `port`, `sizeBytes`) */
export function operationRegion(regionName: string, port: number, sizeBytes: number): Buffer {
	const SYSTEM_IO = 1;
	const head = Buffer.concat([Buffer.from([EXT_OP, REGION_OP]), path(regionName), Buffer.from([SYSTEM_IO])]);
	return Buffer.concat([head, integer(port), integer(sizeBytes)]);
}

/** Field (`regionName`, DWordAcc, NoLock, Preserve) { `fields`, each with its bits, below 64 } */
export function field(regionName: string, fields: readonly (readonly [fieldName: string, bits: number])[]): Buffer {
	const DWORD_ACCESS = 3;
	const units = fields.map(([fieldName, bits]) => Buffer.concat([path(fieldName), Buffer.from([bits])]));
	const body = withLength([path(regionName), Buffer.from([DWORD_ACCESS]), ...units]);
	return Buffer.concat([Buffer.from([EXT_OP, FIELD_OP]), body]);
}

/** Method (`methodName`, `args`, NotSerialized) { ... } */
export function method(methodName: string, args: number, ...terms: Buffer[]): Buffer {
	return Buffer.concat([Buffer.from([METHOD_OP]), withLength([path(methodName), Buffer.from([args]), ...terms])]);
}

/** The method's first local variable. */
export const LOCAL0 = Buffer.from([LOCAL0_OP]);

/** If (`condition`) { ... } */
export function ifTrue(condition: Buffer, ...terms: Buffer[]): Buffer {
	return Buffer.concat([Buffer.from([IF_OP]), withLength([condition, ...terms])]);
}

/** And (`left`, `right`), its value not stored. */
export function and(left: Buffer, right: Buffer): Buffer {
	return Buffer.concat([Buffer.from([AND_OP]), left, right, Buffer.from([0])]);
}

/** Store (`value`, `target`) */
export function store(value: Buffer, target: Buffer): Buffer {
	return Buffer.concat([Buffer.from([STORE_OP]), value, target]);
}

/** Notify (`objectName`, `value`) */
export function notify(objectName: string, value: number): Buffer {
	return Buffer.concat([Buffer.from([NOTIFY_OP]), path(objectName), integer(value)]);
}

/** Return (`value`) */
export function returns(value: Buffer): Buffer {
	return Buffer.concat([Buffer.from([RETURN_OP]), value]);
}

/** ResourceTemplate () { ... }: a buffer of descriptors, closed by an end tag. */
export function resourceTemplate(...descriptors: Buffer[]): Buffer {
	const bytes = Buffer.concat([...descriptors, Buffer.from([0x79, 0])]);
	return Buffer.concat([Buffer.from([BUFFER_OP]), withLength([integer(bytes.length), bytes])]);
}

/** IO (Decode16, `port`, `port`, 1, `count`) */
export function ioPorts(port: number, count: number): Buffer {
	const bytes = Buffer.from([0x47, 1, 0, 0, 0, 0, 1, count]);
	bytes.writeUInt16LE(port, 2);
	bytes.writeUInt16LE(port, 4);
	return bytes;
}

/** Memory32Fixed (ReadWrite, `address`, `sizeBytes`) */
export function memory32Fixed(address: number, sizeBytes: number): Buffer {
	const bytes = Buffer.alloc(12);
	bytes[0] = 0x86;
	bytes.writeUInt16LE(9, 1);
	bytes[3] = 1;
	bytes.writeUInt32LE(address, 4);
	bytes.writeUInt32LE(sizeBytes, 8);
	return bytes;
}

/** Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { `gsi` } */
export function interrupt(gsi: number): Buffer {
	const bytes = Buffer.alloc(9);
	bytes[0] = 0x89;
	bytes.writeUInt16LE(6, 1);
	bytes[3] = 0b0011;
	bytes[4] = 1;
	bytes.writeUInt32LE(gsi, 5);
	return bytes;
}

/** PkgLength and the terms that it counts. It also counts its own one to four bytes. */
function withLength(terms: Buffer[]): Buffer {
	const body = Buffer.concat(terms);
	for (let own = 1; own <= 4; own++) {
		const total = body.length + own;
		if (own === 1 && total < 0x40) return Buffer.concat([Buffer.from([total]), body]);
		if (own > 1 && total < 2 ** (4 + 8 * (own - 1))) {
			const bytes = [((own - 1) << 6) | (total & 0xf)];
			for (let i = 0; i < own - 1; i++) bytes.push((total >>> (4 + 8 * i)) & 0xff);
			return Buffer.concat([Buffer.from(bytes), body]);
		}
	}
	throw new RangeError(`${body.length} bytes do not fit an AML package`);
}
