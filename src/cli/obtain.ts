/*
 * The image of `run` and `create`: from the store, or pulled first, which standard error tells about.
 */
import { UsageError } from "../base/errors.ts";
import type { StoredImage } from "../container/image/config.ts";
import { formatReference, parseReference } from "../container/image/reference.ts";
import type { ImageStore } from "../container/image/store.ts";
import { obtainImage, type PullPolicy } from "../container/obtain.ts";
import { withBlobProgress } from "./blob-progress.ts";
import { untilInterrupted } from "./interrupt.ts";

export interface ObtainFlags {
	pull: string;
	platform?: string;
	quiet: boolean;
}

/** @throws UsageError ERR_RUN_PULL, and as obtainImage */
export async function obtainForRun(store: ImageStore, name: string, flags: ObtainFlags): Promise<StoredImage> {
	const { platform, quiet } = flags;
	const policy = readPolicy(flags.pull);
	const onPull = () => {
		if (quiet) return;
		const full = formatReference(parseReference(name));
		process.stderr.write(store.has(name) ? `tsvmm: pulling ${full}\n` : `Unable to find image '${full}' locally\n`);
	};
	return untilInterrupted(`pull ${name}`, (signal) =>
		withBlobProgress(quiet ? undefined : "pull", (onProgress) =>
			obtainImage(store, name, { pull: policy, platform, onPull, onProgress, signal }),
		),
	);
}

function readPolicy(text: string): PullPolicy {
	if (text === "missing" || text === "always" || text === "never") return text;
	throw new UsageError("ERR_RUN_PULL", `Cannot pull "${text}": missing, always and never are possible`);
}
