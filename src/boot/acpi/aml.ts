/*
 * A small encoder for ACPI Machine Language, with the terms of our DSDT (ACPI 6.5 §20.2, resource descriptors §6.4).
 * Every function returns the bytes of one term; terms nest by concatenation. Bytes are characters of Latin-1 meanwhile: a
 * thousand small strings are made and joined in a tenth of the time of as many Buffers.
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

/** Bytes of AML, each as the character of its value. */
export type Term = string;

/** The bytes of terms. */
export function bytesOf(...terms: Term[]): Buffer {
	return Buffer.from(terms.join(""), "latin1");
}

const bytes = (...values: number[]): Term => String.fromCharCode(...values);
const u16 = (value: number): Term => bytes(value & 0xff, (value >>> 8) & 0xff);
const u32 = (value: number): Term => u16(value & 0xffff) + u16(value >>> 16);

/** A name segment of four characters, padded with underscores; a leading backslash names the root. */
export function path(name: string): Term {
	const absolute = name.startsWith("\\");
	const segment = (absolute ? name.slice(1) : name).padEnd(4, "_");
	if (!/^[A-Z_][A-Z0-9_]{3}$/.test(segment)) throw new RangeError(`"${name}" is no ACPI name`);
	return absolute ? `\\${segment}` : segment;
}

/** An integer, in its shortest encoding. */
export function integer(value: number): Term {
	if (value === 0 || value === 1) return bytes(value);
	if (value <= 0xff) return bytes(BYTE_PREFIX, value);
	return value <= 0xffff ? bytes(WORD_PREFIX) + u16(value) : bytes(DWORD_PREFIX) + u32(value);
}

/** A string of ASCII characters. */
export function string(value: string): Term {
	return `${bytes(STRING_PREFIX)}${value}\0`;
}

/** EISAID("PNP0501"): three letters of five bits and four hexadecimal digits, in big-endian order. */
export function eisaId(id: string): Term {
	const letters = [0, 1, 2].reduce((sum, i) => (sum << 5) | (id.charCodeAt(i) - 0x40), 0);
	const number = Number.parseInt(id.slice(3), 16);
	return bytes(DWORD_PREFIX, letters >>> 8, letters & 0xff, number >>> 8, number & 0xff);
}

/** Name (`name`, `value`). */
export function name(objectName: string, value: Term): Term {
	return bytes(NAME_OP) + path(objectName) + value;
}

/** Package () { ... } */
export function pkg(...elements: Term[]): Term {
	return bytes(PACKAGE_OP) + withLength([bytes(elements.length), ...elements]);
}

/** Scope (`scopeName`) { ... } */
export function scope(scopeName: string, ...terms: Term[]): Term {
	return bytes(SCOPE_OP) + withLength([path(scopeName), ...terms]);
}

/** Device (`deviceName`) { ... } */
export function device(deviceName: string, ...terms: Term[]): Term {
	return bytes(EXT_OP, DEVICE_OP) + withLength([path(deviceName), ...terms]);
}

/** OperationRegion (`regionName`, SystemIO, `port`, `sizeBytes`) */
export function operationRegion(regionName: string, port: number, sizeBytes: number): Term {
	const SYSTEM_IO = 1;
	return bytes(EXT_OP, REGION_OP) + path(regionName) + bytes(SYSTEM_IO) + integer(port) + integer(sizeBytes);
}

/** Field (`regionName`, DWordAcc, NoLock, Preserve) { `fields`, each with its bits, below 64 } */
export function field(regionName: string, fields: readonly (readonly [fieldName: string, bits: number])[]): Term {
	const DWORD_ACCESS = 3;
	const units = fields.map(([fieldName, bits]) => path(fieldName) + bytes(bits));
	return bytes(EXT_OP, FIELD_OP) + withLength([path(regionName), bytes(DWORD_ACCESS), ...units]);
}

/** Method (`methodName`, `args`, NotSerialized) { ... } */
export function method(methodName: string, args: number, ...terms: Term[]): Term {
	return bytes(METHOD_OP) + withLength([path(methodName), bytes(args), ...terms]);
}

/** The method's first local variable. */
export const LOCAL0: Term = bytes(LOCAL0_OP);

/** If (`condition`) { ... } */
export function ifTrue(condition: Term, ...terms: Term[]): Term {
	return bytes(IF_OP) + withLength([condition, ...terms]);
}

/** And (`left`, `right`), its value not stored. */
export function and(left: Term, right: Term): Term {
	return bytes(AND_OP) + left + right + bytes(0);
}

/** Store (`value`, `target`) */
export function store(value: Term, target: Term): Term {
	return bytes(STORE_OP) + value + target;
}

/** Notify (`objectName`, `value`) */
export function notify(objectName: string, value: number): Term {
	return bytes(NOTIFY_OP) + path(objectName) + integer(value);
}

/** Return (`value`) */
export function returns(value: Term): Term {
	return bytes(RETURN_OP) + value;
}

/** ResourceTemplate () { ... }: a buffer of descriptors, closed by an end tag. */
export function resourceTemplate(...descriptors: Term[]): Term {
	const all = descriptors.join("") + bytes(0x79, 0);
	return bytes(BUFFER_OP) + withLength([integer(all.length), all]);
}

/** IO (Decode16, `port`, `port`, 1, `count`) */
export function ioPorts(port: number, count: number): Term {
	return bytes(0x47, 1) + u16(port) + u16(port) + bytes(1, count);
}

/** Memory32Fixed (ReadWrite, `address`, `sizeBytes`) */
export function memory32Fixed(address: number, sizeBytes: number): Term {
	return bytes(0x86) + u16(9) + bytes(1) + u32(address) + u32(sizeBytes);
}

/** Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { `gsi` } */
export function interrupt(gsi: number): Term {
	return bytes(0x89) + u16(6) + bytes(0b0011, 1) + u32(gsi);
}

/** PkgLength and the terms that it counts. It also counts its own one to four bytes. */
function withLength(terms: Term[]): Term {
	const body = terms.join("");
	for (let own = 1; own <= 4; own++) {
		const total = body.length + own;
		if (own === 1 && total < 0x40) return bytes(total) + body;
		if (own > 1 && total < 2 ** (4 + 8 * (own - 1))) {
			const length = [((own - 1) << 6) | (total & 0xf)];
			for (let i = 0; i < own - 1; i++) length.push((total >>> (4 + 8 * i)) & 0xff);
			return bytes(...length) + body;
		}
	}
	throw new RangeError(`${body.length} bytes do not fit an AML package`);
}
