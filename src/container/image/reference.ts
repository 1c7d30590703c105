/*
 * Names of images in Docker's grammar (distribution reference): [HOST[:PORT]/]PATH[:TAG][@DIGEST]. They are kept in the
 * short form: docker.io/library/busybox:latest and busybox are both repository "busybox", tag "latest". An invalid name
 * may be the beginning of an image ID. The store looks for that.
 */
import { UsageError } from "../../base/errors.ts";

export interface Reference {
	/** Short form: "busybox", "user/app", "quay.io/org/app". */
	readonly repository: string;
	/** "latest" when neither tag nor digest was written; undefined with a digest alone. */
	readonly tag: string | undefined;
	/** "sha256:..." when one was written. */
	readonly digest: string | undefined;
}

const COMPONENT = "[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*";
const LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?";
const HOST = `(?:${LABEL}(?:\\.${LABEL})*|\\[[0-9a-fA-F:]+\\])(?::[0-9]+)?`;
const REPOSITORY = new RegExp(`^(?:${HOST}/)?${COMPONENT}(?:/${COMPONENT})*$`);
const TAG = /^\w[\w.-]{0,127}$/;
const DIGEST = /^sha256:[0-9a-f]{64}$/;

/**
 * Reads a name and normalises it.
 *
 * @throws UsageError ERR_IMAGE_REFERENCE that says which part is wrong
 * @example formatReference(parseReference("docker.io/library/busybox")) // "busybox:latest"
 */
export function parseReference(text: string): Reference {
	const at = text.indexOf("@");
	const digest = at < 0 ? undefined : text.slice(at + 1);
	const named = at < 0 ? text : text.slice(0, at);
	const colon = named.lastIndexOf(":");
	const tagged = colon > named.lastIndexOf("/");
	const tag = tagged ? named.slice(colon + 1) : digest === undefined ? "latest" : undefined;
	const repository = familiar(tagged ? named.slice(0, colon) : named);
	if (digest !== undefined && !DIGEST.test(digest)) {
		throw invalid(text, `"${digest}" is not sha256: and 64 hexadecimal digits`);
	}
	if (tag !== undefined && !TAG.test(tag)) throw invalid(text, `"${tag}" is not a tag`);
	if (!REPOSITORY.test(repository) || repository.length > 255) {
		throw invalid(text, repository === "" ? "it has no name" : `"${repository}" is not a repository name`);
	}
	return { repository, tag, digest };
}

/** "busybox:latest", "busybox@sha256:...", or all three parts. */
export function formatReference({ repository, tag, digest }: Reference): string {
	return `${repository}${tag === undefined ? "" : `:${tag}`}${digest === undefined ? "" : `@${digest}`}`;
}

/** A valid reference made from a file name: "Debian 12.tar.gz" -> "debian-12:latest". Undefined when nothing is left. */
export function referenceFromFile(path: string, tag = "latest"): Reference | undefined {
	const base = path.replace(/\/+$/, "").replace(/^.*\//, "");
	const name = base
		.replace(/(\.(tar|tgz|txz|tzst|gz|xz|zst|oci))+$/i, "")
		.toLowerCase()
		.replace(/[^a-z0-9._-]+/g, "-")
		.replace(/[._-]{2,}/g, "-")
		.replace(/^[._-]+|[._-]+$/g, "");
	if (name === "" || !TAG.test(tag)) return undefined;
	return parseReference(`${name}:${tag}`);
}

function familiar(repository: string): string {
	const short = repository.replace(/^(?:index\.)?docker\.io\//, "");
	return short.replace(/^library\/(?=[^/]+$)/, "");
}

function invalid(text: string, found: string): UsageError {
	return new UsageError("ERR_IMAGE_REFERENCE", `Cannot read image name "${text}": ${found}`, {
		hint: "Write NAME[:TAG] in lower case, as in busybox, user/app:1.0 or registry.example/app@sha256:...",
	});
}
