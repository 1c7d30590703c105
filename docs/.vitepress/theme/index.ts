/*
 * VitePress's own theme, with the player of the recorded demo.
 */
import type { Theme } from "vitepress";
import DefaultTheme from "vitepress/theme";
import Recording from "./recording.ts";
import "asciinema-player/dist/bundle/asciinema-player.css";
import "./style.css";

export default {
	extends: DefaultTheme,
	enhanceApp({ app }) {
		app.component("Recording", Recording);
	},
} satisfies Theme;
