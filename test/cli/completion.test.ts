import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { bundle, expectError, program, tsvmm } from "./tsvmm.ts";

/* Each start of a shell and of tsvmm takes its time on a busy machine. */
vi.setConfig({ testTimeout: 120_000 });

const directory = mkdtempSync(join(tmpdir(), "completion-"));
const bin = join(directory, "bin");
const work = join(directory, "work");

beforeAll(() => {
	bundle();
	mkdirSync(bin);
	mkdirSync(work);
	mkdirSync(join(directory, "kernels"));
	/* The images are those of a store that this tsvmm is told to have. */
	writeFileSync(
		join(bin, "tsvmm"),
		`#!/bin/sh\n[ "$*" = "completion images" ] && { echo app:1; echo busybox:latest; exit; }\nexec "${process.execPath}" "${program}" "$@"\n`,
		{ mode: 0o755 },
	);
	writeFileSync(join(work, "vmlinux"), "");
	mkdirSync(join(work, "vm-directory"));
}, 60_000);
afterAll(() => rmSync(directory, { recursive: true }));

const env = { ...process.env, PATH: `${bin}:${process.env.PATH}`, HOME: directory };

/** What the shell offers for a command line; the cursor is at its end. */
const shells: Record<string, (line: string) => string[]> = {
	bash(line) {
		const words = line.split(" ");
		const script = `source <(tsvmm completion bash)
			COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}) COMP_CWORD=${words.length - 1}
			_tsvmm 2>/dev/null; printf '%s\\n' "\${COMPREPLY[@]}"`;
		return lines(execFileSync("bash", ["-c", script], { cwd: work, env, encoding: "utf8" }));
	},
	zsh(line) {
		const words = line.split(" ");
		/* As bashcompinit calls it. */
		const script = `autoload -U compinit && compinit -u -D; source <(tsvmm completion zsh)
			run() { emulate -L sh; setopt kshglob noshglob braceexpand ksh_arrays
				COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length - 1}
				_tsvmm 2>/dev/null; printf '%s\\n' "\${COMPREPLY[@]}"; }; run`;
		const offered = lines(execFileSync("zsh", ["-f", "-c", script], { cwd: work, env, encoding: "utf8" }));
		/* The choice by what is typed is zsh's own. */
		return offered.filter((offer) => offer.startsWith(words.at(-1)!));
	},
	fish(line) {
		const script = `tsvmm completion fish | source; complete -C '${line}'`;
		const text = execFileSync("fish", ["--no-config", "-c", script], { cwd: work, env, encoding: "utf8" });
		return lines(text).map((offer) => offer.split("\t")[0]!.replace(/\/$/, ""));
	},
};

const lines = (text: string) =>
	text
		.split("\n")
		.filter((line) => line !== "")
		.sort();

test.each(Object.keys(shells))(
	"completion %s offers commands, options, files and images where they belong",
	(shell) => {
		const offers = shells[shell]!;
		expect(offers("tsvmm b")).toEqual(["boot"]);
		expect(offers("tsvmm image i")).toEqual(["import", "inspect"]);
		expect(offers("tsvmm boot --virt")).toEqual(["--virtio-console"]);
		expect(offers("tsvmm boot --kernel v")).toEqual(["vm-directory", "vmlinux"]);
		expect(offers("tsvmm boot --cpus ")).toEqual([]);
		expect(offers("tsvmm run ap")).toEqual(["app:1"]);
		expect(offers("tsvmm run -m 1G --inter")).toEqual(["--interactive"]);
		expect(offers("tsvmm image rm app:1 busy")).toEqual(["busybox:latest"]);
	},
);

test("completion refuses a shell that it does not know", async () => {
	const known = "bash, zsh, fish are known";
	expectError(await tsvmm(["completion", "tcsh"]), "ERR_USAGE", `Cannot complete for shell "tcsh": ${known}`);
});

test("completion images prints one name per line, none when there is no image", async () => {
	expect(await tsvmm(["completion", "images"])).toMatchObject({ status: 0, stdout: "" });
});

test("manual prints a page that groff formats without a warning, with every option of every command", async () => {
	const { stdout: page, status } = await tsvmm(["manual"]);
	expect(status).toBe(0);
	const output = execFileSync("sh", ["-c", "groff -man -ww -Tutf8 -P-c - 2>&1"], { input: page, encoding: "utf8" });
	const text = output.replace(/.[\b]/g, "");
	expect(text).not.toMatch(/^(<standard input>|troff|groff|an\.tmac)/m);
	const helps = await Promise.all(["boot", "run", "lab exec"].map((name) => tsvmm([...name.split(" "), "--help"])));
	const options = helps.flatMap(({ stdout }) =>
		[...stdout.matchAll(/ (--[a-z][a-z-]+)/g)].map(([, option]) => option!),
	);
	expect(options.length).toBeGreaterThan(30);
	expect(options.filter((option) => !text.replaceAll("‐", "-").includes(option))).toEqual([]);
});
