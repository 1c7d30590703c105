/* Builds the programs that tests run in guests, each from one file: guests/test/NAME.c -> guests/out/NAME. */
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { buildStatic } from "./static-c.mjs";

const guests = fileURLToPath(new URL("../guests", import.meta.url));
for (const file of readdirSync(`${guests}/test`)) {
	const name = /^(.+)\.c$/.exec(file)?.[1];
	if (name !== undefined) buildStatic(`${guests}/out/${name}`, [`${guests}/test/${file}`], name);
}
