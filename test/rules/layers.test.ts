import { expect, test } from "vitest";
import { codeOf, filesOf, importsOf, textOf } from "./sources.ts";

/** The rows of the table in docs/architecture.md, from the top layer down: the directory and its "may import". */
const rows = [...textOf("docs/architecture.md").matchAll(/^\| `src\/(\w+)` *\|[^|]*\| *([^|]*?) *\|$/gm)].map(
	([, directory, cell]) => ({ directory: directory!, cell: cell! }),
);
const layers = rows.map(({ directory }) => directory);

/** "everything below", "`kernel` and below", "`host`, `base`", "nothing": the directories that the cell in row `at` names. */
function allowedBy(cell: string, at: number): readonly string[] {
	if (cell === "everything below") return layers.slice(at + 1);
	const names = [...cell.matchAll(/`(\w+)`/g)].map(([, name]) => name!);
	if (cell.endsWith(" and below")) return layers.slice(layers.indexOf(names[0]!));
	return names;
}

/** What the files of a directory of src/ may import besides their own directory. */
const ALLOWED: Record<string, readonly string[]> = Object.fromEntries(
	rows.map(({ directory, cell }, at) => [directory, allowedBy(cell, at)]),
);

/** What lies in src/ itself: the command line and the public entries of the package. */
const TOP = [
	"src/bin.ts",
	"src/oci-bin.ts",
	"src/shim-bin.ts",
	"src/supervisor.ts",
	"src/user-module.ts",
	"src/main.ts",
	"src/package-modules.ts",
	"src/index.ts",
	"src/virtio.ts",
	"src/kvm.ts",
];

const layerOf = (path: string) => path.split("/")[1]!;
const sources = filesOf("src", /\.ts$/);
const imports = sources.flatMap((path) => importsOf(path).map((entry) => ({ path, ...entry })));

test("importsOf sees enough to judge by", () => {
	expect(imports.length).toBeGreaterThan(sources.length);
	expect(importsOf("src/main.ts").map(({ target }) => target)).toContain("src/cli/boot.ts");
	expect(importsOf("src/virtio/block.ts")).toContainEqual({ target: "src/backends/contract.ts", typeOnly: true });
});

test("the table in docs/architecture.md has each directory of src once", () => {
	const directories = new Set(sources.filter((path) => !TOP.includes(path)).map(layerOf));
	expect([...layers].sort()).toEqual([...directories].sort());
});

test("the table in docs/architecture.md runs from the top down: a row allows only rows below it", () => {
	const upward = rows.flatMap(({ directory }, at) =>
		ALLOWED[directory]!.filter((to) => layers.indexOf(to) <= at).map((to) => `${directory} may import ${to}`),
	);
	expect(upward).toEqual([]);
	expect(ALLOWED.base).toEqual([]);
	expect(ALLOWED.machine).toContain("boot");
	expect(ALLOWED.container).not.toContain("lab");
});

test("each directory that a row of the table lists by name is imported", () => {
	const unused = rows
		.filter(({ cell }) => !cell.includes("below"))
		.flatMap(({ directory }) =>
			ALLOWED[directory]!.filter(
				(to) => !imports.some(({ path, target }) => layerOf(path) === directory && layerOf(target) === to),
			).map((to) => `${directory} never imports ${to}`),
		);
	expect(unused).toEqual([]);
});

test("imports point only downward", () => {
	const wrong = imports.filter(({ path, target }) => {
		const from = layerOf(path);
		const to = layerOf(target);
		return !TOP.includes(path) && from !== to && target.startsWith("src/") && !ALLOWED[from]?.includes(to);
	});
	expect(wrong.map(({ path, target }) => `${path} imports ${target}`)).toEqual([]);
});

test("nothing in src imports from outside src", () => {
	const wrong = imports.filter(({ target }) => !target.startsWith("src/"));
	expect(wrong.map(({ path, target }) => `${path} imports ${target}`)).toEqual([]);
});

test("virtio knows of backends only the types of their contract", () => {
	const wrong = imports.filter(
		({ path, target, typeOnly }) =>
			layerOf(path) === "virtio" &&
			layerOf(target) === "backends" &&
			!(target === "src/backends/contract.ts" && typeOnly),
	);
	expect(wrong.map(({ path, target }) => `${path} imports ${target}`)).toEqual([]);
});

test("native() is called only in src/host", () => {
	const callers = imports.filter(
		({ path, target }) =>
			target === "src/host/native.ts" && layerOf(path) !== "host" && /native\(\)/.test(codeOf(path)),
	);
	/* doctor asks whether the helper loads at all. */
	expect(callers.map(({ path }) => path).filter((path) => path !== "src/cli/doctor-checks.ts")).toEqual([]);
});

test("koffi is loaded only in src/host", () => {
	const users = sources.filter((path) => layerOf(path) !== "host" && /["']koffi["']/.test(codeOf(path)));
	expect(users.filter((path) => path !== "src/cli/doctor-checks.ts")).toEqual([]);
});

test("the public entries export and do nothing else; only package-modules.ts imports them, for files of users", () => {
	for (const path of TOP.slice(7)) {
		const rest = codeOf(path).replace(/export (type )?(\*|\{[^}]*\}) from "[^"]*";/g, "");
		expect(rest.trim()).toBe("");
	}
	const importers = imports.filter(({ target }) => TOP.includes(target)).map(({ path }) => path);
	const known = ["src/main.ts", "src/package-modules.ts"];
	expect(importers.filter((path) => !known.includes(path))).toEqual([]);
});
