/*
 * Bad images, as the real command line meets them.
 */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { ociLayout, sha256, tar, withFile, writeDirectory } from "../container/image/archives.ts";
import { bundle, directory, expectError, type Outcome, type Setting, tsvmm, write } from "./tsvmm.ts";

/* Each start of tsvmm takes its time on a busy machine. */
vi.setConfig({ testTimeout: 60_000 });

beforeAll(bundle, 60_000);

type Row = [what: string, args: string[], prepare: Setting["prepare"], code: string, message: string, hint?: string];

const IMAGE_FORMATS =
	"Give an OCI layout, a docker-archive or a root file system, as tar, plain or with gzip, zstd or xz";
const EMPTY_STORE = "Fill the image store, which is empty: tsvmm image import PATH NAME";
const layout = async (
	directory: string,
	change: (files: Map<string, Buffer>) => Map<string, Buffer> = (files) => files,
) => writeDirectory(change(ociLayout([await tar([{ name: "bin/sh", data: "x" }])])), directory);
/** The layout lies in a directory with a random name, so its name is left out. */
const imported = async (prepare: (directory: string) => Promise<string>): Promise<Outcome> => {
	let path = "";
	const outcome = await tsvmm(["image", "import", "layout", "app:1"], {
		prepare: async (directory) => {
			path = await prepare(directory);
			execFileSync("mv", [path, join(directory, "layout")]);
		},
	});
	return outcome;
};

describe.concurrent("tsvmm image", () => {
	test.each<Row>([
		[
			"a missing file",
			["import", "f", "x"],
			undefined,
			"ERR_IMAGE_NOT_FOUND",
			"Cannot open f: no such file or directory",
		],
		["zero bytes", ["import", "f", "x"], write("f", ""), "ERR_IMAGE_EMPTY", "Cannot import f: it is zero bytes"],
		[
			"noise",
			["import", "f", "x"],
			write("f", "noise".repeat(1000)),
			"ERR_IMAGE_FORMAT",
			"Cannot import f: it is not a tar archive",
			IMAGE_FORMATS,
		],
		[
			"a directory that is no layout",
			["import", "d", "x"],
			directory("d"),
			"ERR_IMAGE_FORMAT",
			"Cannot import d: the directory has no file oci-layout",
			"Give an OCI image layout, or pack a root file system with tar",
		],
		[
			"to remove what is not there",
			["rm", "nope"],
			undefined,
			"ERR_IMAGE_NOT_FOUND",
			"Cannot find image nope:latest",
			EMPTY_STORE,
		],
	])("image refuses %s", async (_what, args, prepare, code, message, hint) => {
		expectError(await tsvmm(["image", ...args], prepare ? { prepare } : {}), code, message, hint);
	});

	test("image inspect of what is not there prints an empty list and says so", async () => {
		const { stdout, ...outcome } = await tsvmm(["image", "inspect", "nope"]);
		expect(stdout).toBe("[]\n");
		const message = "Cannot find image nope:latest";
		expectError({ ...outcome, stdout: "" }, "ERR_IMAGE_NOT_FOUND", message, EMPTY_STORE);
	});

	test("image import refuses a layout without its index", async () => {
		const outcome = await imported((directory) =>
			layout(directory, (files) => {
				files.delete("index.json");
				return files;
			}),
		);
		expectError(outcome, "ERR_IMAGE_MALFORMED", "Cannot read image: index.json: the file is missing");
	});

	test("image import refuses a layout whose index is no JSON", async () => {
		const outcome = await imported((directory) => layout(directory, (files) => withFile(files, "index.json", "{")));
		expect(outcome).toMatchObject({ status: 125, stdout: "", left: [] });
		expect(outcome.stderr).toMatch(
			/^tsvmm: error: Cannot read image: index\.json: it is not JSON \(.*\) \[ERR_IMAGE_MALFORMED\]\n$/,
		);
	});

	test("image import refuses a layer with ../ paths, and writes nothing", async () => {
		const evil = await tar([{ name: "../../../../evil", data: "x" }]);
		const outcome = await imported(async (directory) => writeDirectory(ociLayout([evil]), directory));
		expect(outcome).toMatchObject({ status: 125, stdout: "", left: [] });
		expect(outcome.stderr.split("\n")[0]).toContain(`layer ${sha256(evil)}`);
		expect(outcome.stderr).toContain("[ERR_IMAGE_PATH]\n  hint: Do not trust the image: it is damaged or hostile");
	});
});
