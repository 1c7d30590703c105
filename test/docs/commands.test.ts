/*
 * Every `tsvmm ...` line in a fenced block of the documentation is a command that there is, with flags that it has, by what
 * the shell completes.
 */
import { execFileSync } from "node:child_process";
import { beforeAll, expect, test } from "vitest";
import { bundle, program } from "../cli/tsvmm.ts";
import { blocksOf, PAGES } from "./pages.ts";

/** Commands whose first argument ends their flags: the rest is another program's. */
const PASSES_ON = /^tsvmm (container )?(run|create|exec)$|^tsvmm lab exec$/;

interface Known {
	/** Flags by command. */
	flags: Map<string, Set<string>>;
	/** "tsvmm run --name": flags that take a value. */
	valued: Set<string>;
}

function known(script: string): Known {
	const flags = new Map<string, Set<string>>();
	for (const [, place, words] of script.matchAll(/^\t'(tsvmm[^']*)'\) if .*?compgen -W '(-[^']*)'/gm)) {
		flags.set(place!, new Set(words!.split(" ")));
	}
	const valued = new Set([...script.matchAll(/'(tsvmm[^']* -[^' ]+)'(?=[|)])/g)].map(([, name]) => name!));
	return { flags, valued };
}

/** What is wrong with a command line, or undefined. */
function complaint(line: string, { flags, valued }: Known): string | undefined {
	const words = line.match(/"[^"]*"|'[^']*'|\S+/g) ?? [];
	let place = "tsvmm";
	let at = 1;
	while (at < words.length && flags.has(`${place} ${words[at]}`)) place += ` ${words[at++]}`;
	if (place === "tsvmm" && !/^(-|$)/.test(words[at] ?? "")) return `no command "${words[at]}"`;
	/* What is in brackets may be left out. */
	for (; at < words.length; at++) {
		const word = words[at]!.replaceAll(/[[\]]/g, "");
		if (/^(#|\||>|<|&&|;)/.test(word) || word === "--") return undefined;
		if (!word.startsWith("-") || word === "-") {
			if (PASSES_ON.test(place)) return undefined;
			continue;
		}
		const name = word.replace(/=.*/, "");
		const names = /^-\w\w+$/.test(name) ? [...name.slice(1)].map((letter) => `-${letter}`) : [name];
		const missing = names.find((one) => !flags.get(place)!.has(one));
		if (missing !== undefined) return `${place} has no flag ${missing}`;
		if (valued.has(`${place} ${names.at(-1)}`) && !word.includes("=")) at++;
	}
	return undefined;
}

let commands: Known;

beforeAll(() => {
	bundle();
	commands = known(execFileSync(process.execPath, [program, "completion", "bash"], { encoding: "utf8" }));
}, 60_000);

test("complaint: finds an unknown command, an unknown flag, and stops where another program's words begin", () => {
	expect(complaint("tsvmm rum x", commands)).toBe('no command "rum"');
	expect(complaint("tsvmm image ls --jsom", commands)).toBe("tsvmm image ls has no flag --jsom");
	expect(complaint("tsvmm run -iz x", commands)).toBe("tsvmm run has no flag -z");
	expect(complaint("tsvmm run -it --name x busybox ls --color", commands)).toBeUndefined();
	expect(complaint("tsvmm lab exec -- anything --at-all", commands)).toBeUndefined();
});

test("every tsvmm line in the documentation is a command with flags that it has", () => {
	const lines = PAGES.filter((page) => page !== "CHANGELOG.md").flatMap((page) =>
		blocksOf(page).flatMap(({ text, line }) =>
			text.split("\n").flatMap((one, index) => {
				const found = /^(?:\$ |# )?(?:sudo )?(tsvmm .*)/.exec(one);
				return found === null ? [] : [{ at: `${page}:${line + index}`, text: found[1]! }];
			}),
		),
	);
	expect(lines.length).toBeGreaterThan(50);
	const wrong = lines.flatMap(({ at, text }) => {
		const found = complaint(text, commands);
		return found === undefined ? [] : [`${at}: ${found}`];
	});
	expect(wrong).toEqual([]);
});
