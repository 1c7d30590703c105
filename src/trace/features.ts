/*
 * The names of virtio's feature bits (virtio 1.2 §6 and each device type's "Feature bits"), from the constants of the
 * devices. A bit that no constant names stands as its number.
 */
import * as balloon from "../virtio/balloon.ts";
import * as blk from "../virtio/block-request.ts";
import * as console from "../virtio/console.ts";
import * as net from "../virtio/net.ts";
import * as netHeader from "../virtio/net-header.ts";
import * as spec from "../virtio/spec.ts";
import * as vsock from "../virtio/vsock/device.ts";

const MODULES: Readonly<Record<string, readonly object[]>> = {
	blk: [blk],
	net: [net, netHeader],
	console: [console],
	balloon: [balloon],
	vsock: [vsock],
};

const tables = new Map<string | undefined, ReadonlyMap<bigint, string>>();

/** The names of the feature bits of a device of this type. */
export function featureNames(type: string | undefined, features: bigint): string[] {
	let table = tables.get(type);
	if (table === undefined) {
		table = tableOf([spec, ...(MODULES[type ?? ""] ?? [])]);
		tables.set(type, table);
	}
	const names: string[] = [];
	for (let bit = 0n; bit < 64n; bit++) {
		const mask = 1n << bit;
		if ((features & mask) !== 0n) names.push(table.get(mask) ?? `bit ${bit}`);
	}
	return names;
}

function tableOf(modules: readonly object[]): ReadonlyMap<bigint, string> {
	return new Map(
		modules
			.flatMap((module) => Object.entries(module))
			.flatMap(([name, value]) =>
				typeof value === "bigint" && /^VIRTIO_([A-Z]+_)?F_/.test(name) ? [[value, name] as const] : [],
			),
	);
}
