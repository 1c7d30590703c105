/*
 * `npm run bench` runs to its end and prints all comparisons. The test does not judge the times.
 */
import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { packageRoot } from "../../src/host/native.ts";

const NAMES = [
	...[
		/^start with 256 MiB of RAM/,
		/^4 KiB reads, 4 in flight/,
		/^exit round trip/,
		/^kick to used/,
		...[/^4 KiB reads, polled, 1 in flight/, /^4 KiB reads of 2 vCPUs/, /^4 KiB writes, qcow2, 64 in flight/],
		/^virtio-blk 4 KiB .* 64 in flight/,
		/^boot to init/,
		/^pull/,
	],
	...[/^virtio-blk: random reads of 4 KiB, depth 32/],
	...[/^virtio-fs: tar -x/, /^virtio-fs: git status/, /^virtio-fs: random reads/, /^virtio-fs: reads of 1 MiB/],
	...[/^virtio-net: guest to host/, /^virtio-net: host to guest/, /^virtio-net: 64 bytes and back/],
	...[/^vsock: guest to host/, /^vsock: host to guest/, /^vsock: 64 bytes and back/],
	...[/^vsock without a guest, to the host/, /^vsock without a guest, to the guest/],
	...[/^run -d to running/, /^exec round trip/, /^cp into a container/, /^cp out of it/],
	...[/^memory of a monitor, 2 containers/, /^ps, 2 containers/, /^run -d, container 2/],
	...[/^podman run --rm true, cold/, /^podman run --rm true, warm/, /^podman exec true/],
];

test("npm run bench prints a ratio for each of its rows", () => {
	const output = execFileSync("npm", ["run", "--silent", "bench", "--", "--json", "--small"], {
		cwd: packageRoot(),
		encoding: "utf8",
		stdio: ["ignore", "pipe", "pipe"],
	});
	const rows = JSON.parse(output.slice(output.indexOf("[\n"))) as { name: string; ratio: number }[];
	for (const name of NAMES) {
		const row = rows.find((candidate) => name.test(candidate.name));
		expect(row, `${name}`).toBeDefined();
		expect(row!.ratio).toBeGreaterThan(0);
	}
}, 1_200_000);
