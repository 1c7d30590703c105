/*
 * The root file system of an image, for tests that need its file but not open.
 */
import type { StoredImage } from "../../../src/container/image/config.ts";
import { openRootfs, type RootfsImage, type RootfsOptions } from "../../../src/container/image/rootfs.ts";
import type { ImageStore } from "../../../src/container/image/store.ts";

export async function builtRootfs(
	store: ImageStore,
	image: StoredImage,
	options: RootfsOptions = {},
): Promise<RootfsImage> {
	await using rootfs = await openRootfs(store, image, options);
	return { path: rootfs.path, fstype: rootfs.fstype };
}
