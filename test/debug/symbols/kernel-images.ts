/*
 * Images of kernels that are nothing but their kallsyms tables, packed as bzImages.
 */
import { gzipSync } from "node:zlib";
import { HDRS, setup_header } from "../../../src/boot/bzimage.ts";

/** A symbol as nm(1) has it. */
export interface NamedAddress {
	readonly address: bigint;
	readonly type: string;
	readonly name: string;
}

const align8 = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 7)]);
const u32s = (values: readonly number[]) => align8(Buffer.from(new Uint32Array(values).buffer));
const u64 = (value: bigint) => Buffer.from(new BigUint64Array([value]).buffer);

/**
 * The tables as Linux lays them out: `form` says where the offsets are. Tokens above 127 are pairs of letters.
 *
 * @param absolute addresses below the kernel's are kept as they are, and its own are counted down from -1
 */
export function kallsymsImage(
	symbols: readonly NamedAddress[],
	{ form, absolute = true }: { form: "6.0" | "6.1" | "6.12"; absolute?: boolean },
): Buffer {
	const base = symbols.find(({ address }) => address >> 63n === 1n)!.address;
	const pairs = ["st", "ar", "er", "ne"];
	const tokens = Array.from({ length: 256 }, (_, i) =>
		i >= 0x80 ? (pairs[i - 0x80] ?? `x${i}`) : i > 0x20 ? String.fromCharCode(i) : `y${i}`,
	);
	tokens[0x3a] = "z";
	const packed = symbols.map(({ type, name }) => {
		let text = type + name;
		pairs.forEach((pair, i) => {
			text = text.replaceAll(pair, String.fromCharCode(0x80 + i));
		});
		const bytes = Buffer.from(text, "latin1");
		const length = bytes.length < 0x80 ? [bytes.length] : [(bytes.length & 0x7f) | 0x80, bytes.length >> 7];
		return Buffer.concat([Buffer.from(length), bytes]);
	});
	const markers: number[] = [];
	let at = 0;
	packed.forEach((bytes, i) => {
		if (i % 256 === 0) markers.push(at);
		at += bytes.length;
	});
	const positions: number[] = [];
	at = 0;
	for (const token of tokens) {
		positions.push(at);
		at += token.length + 1;
	}
	const offset = ({ address }: NamedAddress) => {
		if (!absolute) return Number(address - base);
		return address >> 63n === 1n ? Number(base - 1n - address) >>> 0 : Number(address);
	};
	const places = [u32s(symbols.map(offset)), u64(base)];
	const names = [u32s([symbols.length]), align8(Buffer.concat(packed)), u32s(markers)];
	const sequences = align8(Buffer.alloc(3 * symbols.length, 7));
	const table = [
		align8(Buffer.from(`${tokens.join("\0")}\0`, "latin1")),
		Buffer.from(new Uint16Array(positions).buffer),
	];
	const tables =
		form === "6.12"
			? [...names, ...table, ...places, sequences]
			: [...places, ...names, ...(form === "6.1" ? [sequences] : []), ...table];
	return Buffer.concat([Buffer.alloc(512, 0xcc), ...tables, Buffer.alloc(512, 0xcc)]);
}

/** A bzImage that has `image` in it, and no code. */
export function packedKernel(image: Buffer): Buffer {
	const payload = gzipSync(image);
	const setup = Buffer.alloc(2 * 512);
	setup[setup_header.setup_sects] = 1;
	setup.writeUInt16LE(0xaa55, setup_header.boot_flag);
	setup.writeUInt32LE(HDRS, setup_header.header);
	setup.writeUInt16LE(0x20f, setup_header.version);
	setup.writeUInt32LE(0, setup_header.payload_offset);
	setup.writeUInt32LE(payload.length, setup_header.payload_length);
	return Buffer.concat([setup, payload]);
}
