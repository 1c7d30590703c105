/*
 * Reads a plain tar of a root file system (`docker export`, mmdebstrap, debootstrap). It becomes an image of one layer,
 * whose configuration has only a PATH. The newest file's time becomes the time of creation, so that the same tar gives
 * the same image.
 */
import type { TarArchive } from "../archive.ts";
import { parseConfig } from "../documents.ts";
import { type ArchivedImage, makeManifest } from "./archived-image.ts";

export function readRootfs(archive: TarArchive): ArchivedImage[] {
	const created = new Date(Math.min(Math.max(archive.newest, 0), 0xffff_ffff) * 1000).toISOString();
	return [
		{
			names: [],
			load: async (staging) => {
				const layer = await staging.put(archive.whole(), "the archive");
				const data = Buffer.from(
					JSON.stringify({
						created,
						architecture: "amd64",
						os: "linux",
						config: { Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"] },
						rootfs: { type: "layers", diff_ids: [layer.digest] },
					}),
				);
				const configuration = await staging.put([data], "configuration");
				const manifest = await staging.put([makeManifest(configuration, [layer])], "manifest");
				const layers = [{ ...layer, diffId: layer.digest }];
				return { manifest, configuration, parsed: parseConfig(data, "configuration"), layers };
			},
		},
	];
}
