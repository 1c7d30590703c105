/*
 * How fast an image comes from a registry: 200 MB in four layers, from Debian's docker-registry on this machine, ours
 * into the store and skopeo's into a directory. Both check every digest; ours also tries the layers out.
 */
import { randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { ImageStore } from "../../src/container/image/store.ts";
import { pull } from "../../src/container/registry/pull.ts";
import { ociLayout, tar, writeDirectory } from "../container/image/archives.ts";
import { DockerRegistry } from "../container/registry/docker-registry.ts";
import { quick } from "../container/registry/fake-registry.ts";
import { type BenchRow, rateRow } from "./row.ts";

const LAYERS = 4;
const LAYER_BYTES = 50_000_000;
const ROUNDS = 3;

/** Seconds of the fastest of some rounds. */
async function fastest(round: () => Promise<unknown>, clean: () => unknown): Promise<number> {
	let best = Number.POSITIVE_INFINITY;
	for (let i = 0; i < ROUNDS; i++) {
		const began = performance.now();
		await round();
		best = Math.min(best, (performance.now() - began) / 1000);
		await clean();
	}
	return best;
}

/** MB/s of a pull. */
export async function benchPull(): Promise<BenchRow[]> {
	const registry = await DockerRegistry.start();
	try {
		const layers = [];
		for (let i = 0; i < LAYERS; i++) layers.push(await tar([{ name: `file${i}`, data: randomBytes(LAYER_BYTES) }]));
		const name = `${registry.host}/bench:1`;
		const layout = writeDirectory(ociLayout(layers), registry.directory);
		const copy = ["copy", "--dest-tls-verify=false", "--src-tls-verify=false"];
		await registry.skopeo(...copy, `oci:${layout}`, `docker://${name}`);
		const store = new ImageStore(join(registry.directory, "cache/images"));
		const to = join(registry.directory, "skopeo");
		const ours = await fastest(
			() => pull(store, name, quick({ timeoutMs: 60_000 })),
			() => store.remove([name]),
		);
		const reference = await fastest(
			() => registry.skopeo(...copy, `docker://${name}`, `dir:${to}`),
			() => rmSync(to, { recursive: true }),
		);
		const megabytes = (LAYERS * LAYER_BYTES) / 1e6;
		return [rateRow("pull, MB", megabytes / ours, megabytes / reference, "skopeo copy to a directory")];
	} finally {
		await registry.stop();
	}
}
