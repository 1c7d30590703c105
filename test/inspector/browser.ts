/*
 * Debian's Chromium without a window, for tests of the inspector's page.
 */
import { type Browser, chromium, type Page } from "playwright-core";

const QUIET = ["no-first-run", "disable-background-networking", "disable-component-update", "disable-sync"];
const FLAGS = ["headless", "no-sandbox", "disable-gpu", "disable-quic", ...QUIET].map((name) => `--${name}`);

/** A browser. The caller closes it. */
export function launchBrowser(): Promise<Browser> {
	return chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });
}

/** What a page has complained about: errors of its code, and what its policy has stopped. */
export function complaintsOf(page: Page): string[] {
	const complaints: string[] = [];
	page.on("pageerror", (error) => complaints.push(error.message));
	page.on("console", (message) => {
		if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
	});
	return complaints;
}
