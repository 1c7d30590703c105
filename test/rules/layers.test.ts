import { expect, test } from "vitest";
import { codeOf, filesOf, importsOf } from "./sources.ts";

/** What the files of a directory of src/ may import besides their own directory. Downward only. */
const BELOW_MACHINE = ["boot", "devices", "virtio", "backends", "kvm", "host", "base"];
const ALLOWED: Record<string, readonly string[]> = {
	cli: ["container", "kernel", "lab", "debian", "agent", "machine", ...BELOW_MACHINE],
	container: ["agent", "kernel", "debian", "machine", ...BELOW_MACHINE],
	kernel: ["debian", "host", "base"],
	lab: ["kernel", "debian", "agent", "machine", ...BELOW_MACHINE],
	machine: BELOW_MACHINE,
	boot: ["kvm", "host", "base"],
	devices: ["host", "base"],
	virtio: ["backends", "host", "base"],
	backends: ["host", "base"],
	agent: ["base"],
	debian: ["host", "base"],
	kvm: ["host", "base"],
	host: ["base"],
	base: [],
};

/** What lies in src/ itself: the command line and the public entries of the package. */
const TOP = ["src/main.ts", "src/index.ts", "src/virtio.ts", "src/kvm.ts"];

const layerOf = (path: string) => path.split("/")[1]!;
const sources = filesOf("src", /\.ts$/);
const imports = sources.flatMap((path) => importsOf(path).map((entry) => ({ path, ...entry })));

test("importsOf sees enough to judge by", () => {
	expect(imports.length).toBeGreaterThan(sources.length);
	expect(importsOf("src/main.ts").map(({ target }) => target)).toContain("src/cli/boot.ts");
	expect(importsOf("src/virtio/block.ts")).toContainEqual({ target: "src/backends/contract.ts", typeOnly: true });
});

test("every directory of src has a layer", () => {
	const directories = new Set(sources.filter((path) => !TOP.includes(path)).map(layerOf));
	expect([...directories].filter((directory) => ALLOWED[directory] === undefined)).toEqual([]);
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
	// doctor asks whether the helper loads at all.
	expect(callers.map(({ path }) => path).filter((path) => path !== "src/cli/doctor-checks.ts")).toEqual([]);
});

test("koffi is loaded only in src/host", () => {
	const users = sources.filter((path) => layerOf(path) !== "host" && /["']koffi["']/.test(codeOf(path)));
	expect(users.filter((path) => path !== "src/cli/doctor-checks.ts")).toEqual([]);
});

test("the public entries export and do nothing else; nothing in src imports them", () => {
	for (const path of TOP.slice(1)) {
		const rest = codeOf(path).replace(/export (type )?(\*|\{[^}]*\}) from "[^"]*";/g, "");
		expect(rest.trim()).toBe("");
	}
	expect(imports.filter(({ target }) => TOP.includes(target)).map(({ path }) => path)).toEqual([]);
});
