/*
 * `tsvmm login` and `tsvmm logout`: credentials for a registry, tried out, and kept where Docker keeps them.
 */
import { constants } from "node:os";
import { createInterface } from "node:readline";
import { Command } from "commander";
import { UsageError } from "../base/errors.ts";
import { InterruptedError } from "../base/signals.ts";
import { DockerConfig } from "../container/registry/credentials.ts";
import { DOCKER_HUB } from "../container/registry/location.ts";
import { untilInterrupted } from "./interrupt.ts";

interface LoginFlags {
	username?: string;
	password?: string;
	passwordStdin?: boolean;
	insecure?: boolean;
}

/** A password is one line; so much of standard input is read. */
const MAX_PASSWORD_BYTES = 64 * 1024;

/** The command for main.ts. */
export function loginCommand(): Command {
	return new Command("login")
		.description("log in to a registry")
		.argument("[registry]", "HOST[:PORT]; Docker Hub when missing")
		.option("-u, --username <name>", "user name; asked for when missing")
		.option("-p, --password <password>", "password, which other users of this host may see")
		.option("--password-stdin", "read the password from standard input")
		.option("--insecure", "allow plain http and any certificate")
		.action(loginAction);
}

async function loginAction(registry: string | undefined, flags: LoginFlags): Promise<void> {
	const name = registryName(registry);
	const username = flags.username ?? (await ask("Username: "));
	const password = await readPassword(flags);
	if (username === "" || password === "") throw missing("a user name and a password are wanted");
	const { logIn } = await import("../container/registry/log-in.ts");
	const credentials = { username, password };
	const work = (signal: AbortSignal) => logIn(name, credentials, { insecure: flags.insecure, signal });
	await untilInterrupted(`log in to ${name}`, work);
	const config = new DockerConfig();
	const where = await config.store(name, credentials);
	if (where === config.path) {
		process.stderr.write(
			`tsvmm: the password is in ${where}, readable for you alone; a credential helper keeps it safer\n`,
		);
	}
	process.stdout.write("Login Succeeded\n");
}

/** The command for main.ts. */
export function logoutCommand(): Command {
	return new Command("logout")
		.description("forget the credentials for a registry")
		.argument("[registry]", "HOST[:PORT]; Docker Hub when missing")
		.action(async (registry: string | undefined) => {
			const name = registryName(registry);
			const was = await new DockerConfig().erase(name);
			process.stdout.write(was ? `Removing login credentials for ${name}\n` : `Not logged in to ${name}\n`);
		});
}

/** "https://quay.io/v1/" is quay.io, as in Docker. */
function registryName(text = DOCKER_HUB): string {
	const name = text.replace(/^https?:\/\//, "").split("/")[0]!;
	if (/^(index\.docker\.io|registry-1\.docker\.io)$/.test(name)) return DOCKER_HUB;
	if (/^([\w.-]+|\[[0-9a-fA-F:]+\])(:\d+)?$/.test(name)) return name;
	throw new UsageError("ERR_IMAGE_REFERENCE", `Cannot read registry "${text}": HOST[:PORT] is wanted`);
}

async function readPassword({ username, password, passwordStdin }: LoginFlags): Promise<string> {
	if (passwordStdin !== true) return password ?? (await ask("Password: ", true));
	if (password !== undefined) throw missing("--password and --password-stdin exclude each other");
	if (username === undefined) throw missing("--password-stdin needs --username");
	let text = "";
	for await (const chunk of process.stdin) {
		text += chunk;
		if (text.length > MAX_PASSWORD_BYTES) throw missing("standard input is too long for a password");
	}
	return text.replace(/\r?\n$/, "");
}

/** Asks on the terminal. */
async function ask(question: string, secret = false): Promise<string> {
	if (process.stdin.isTTY !== true) {
		throw missing("standard input is no terminal to ask at", "Use --username and --password-stdin");
	}
	process.stderr.write(question);
	/* No output: what is typed is not shown. The terminal's own echo is off while readline edits. */
	const output = secret ? {} : { output: process.stderr };
	const lines = createInterface({ input: process.stdin, terminal: true, ...output });
	try {
		return await new Promise<string>((resolve, reject) => {
			lines.once("line", resolve);
			lines.once("close", () => resolve(""));
			lines.once("SIGINT", () => reject(new InterruptedError("log in", constants.signals.SIGINT)));
		});
	} finally {
		lines.close();
		if (secret) process.stderr.write("\n");
	}
}

function missing(found: string, hint?: string): UsageError {
	return new UsageError("ERR_REGISTRY_LOGIN", `Cannot log in: ${found}`, { hint });
}
