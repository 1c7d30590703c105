/*
 * The labs' texts and start files: docs/labs of the package.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { HostError } from "../base/errors.ts";
import { packageRoot } from "../host/native.ts";
import { type Lab, labDirectory } from "./lab.ts";

/** The path of a lab's file, such as "README.md". @throws HostError ERR_LEARN_TEXT */
export function labFile(lab: Lab, name: string): string {
	const path = join(packageRoot(), "docs/labs", labDirectory(lab), name);
	if (existsSync(path)) return path;
	throw new HostError("ERR_LEARN_TEXT", `Cannot find ${path}: this tsvmm was installed without it`, {
		hint: "Install the package anew",
	});
}

/** The first step of a lab's text, without Markdown's marks. */
export function firstStep(lab: Lab): string {
	const text = readFileSync(labFile(lab, "README.md"), "utf8");
	const step = /^## Steps\n+1\. ([\s\S]*?)\n(?:\n|2\. )/m.exec(text)?.[1] ?? "";
	return step
		.replace(/\n\s*/g, " ")
		.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
		.replaceAll(/\*\*|`/g, "");
}
