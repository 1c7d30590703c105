/* Builds the guest agent: guests/agent/*.c -> guests/out/agent. */
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { buildStatic } from "./static-c.mjs";

const guests = fileURLToPath(new URL("../guests", import.meta.url));
const sources = readdirSync(`${guests}/agent`).filter((name) => /\.[ch]$/.test(name));
buildStatic(
	`${guests}/out/agent`,
	sources.map((name) => `${guests}/agent/${name}`),
	"the guest agent",
);
